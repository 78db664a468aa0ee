"""Webhooks as they are posted: what an endpoint is sent, and when again, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from webhook_receiver import Answer, Receiver

from awaited import until
from stockpipe.local.webhooks import (
    LINE_LENGTH,
    STOPPED,
    Failure,
    Outcome,
    Post,
    Webhooks,
    deliver,
    shown,
)

pytest.importorskip("ministack")


AT_ONCE = (0.0, 0.0, 0.0)


def post(url: str, told: list[Outcome] | None = None, **changes: Any) -> Post:
    """A post to a URL that notes its end."""
    done: Callable[[Outcome], None] = (told if told is not None else []).append
    return replace(Post(url, {"A": "b"}, "text", wanted=lambda: True, done=done), **changes)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def test_an_endpoint_that_answers_500_twice_gets_it_at_the_third_attempt(
    receiver: Receiver,
) -> None:
    receiver.answer(Answer(500), Answer(503))
    told: list[Outcome] = []
    Webhooks(AT_ONCE).post(post(receiver.url, told))
    until(lambda: told)
    assert told == [Outcome(attempts=3, error=None)]
    assert [request.body for request in receiver.requests] == ["text"] * 3


def test_a_dead_endpoint_is_given_up_after_four_attempts_and_said_so() -> None:
    with Receiver() as gone:
        url = gone.url
    told: list[Outcome] = []
    Webhooks(AT_ONCE).post(post(url, told))
    until(lambda: told)
    assert told == [Outcome(attempts=4, error="Connection refused")]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (302, 1), (429, 4), (500, 4)])
def test_only_what_may_pass_is_tried_again(receiver: Receiver, status: int, attempts: int) -> None:
    elsewhere = f"{receiver.url}/elsewhere"
    receiver.answer(*[Answer(status, location=elsewhere)] * attempts)
    told: list[Outcome] = []
    Webhooks(AT_ONCE).post(post(receiver.url, told))
    until(lambda: told)
    assert told == [Outcome(attempts, f"HTTP status {status}")]
    assert {request.path for request in receiver.requests} == {"/hook"}  # nowhere else


def test_a_slow_endpoint_delays_no_other(receiver: Receiver) -> None:
    held = threading.Event()
    receiver.answer(Answer(held=held))
    slow: list[Outcome] = []
    webhooks = Webhooks()
    webhooks.post(post(receiver.url, slow))
    until(lambda: receiver.requests)
    with Receiver() as other:
        quick: list[Outcome] = []
        webhooks.post(post(other.url, quick))
        until(lambda: quick)
    assert slow == []
    held.set()
    until(lambda: slow)
    assert slow == [Outcome(1, None)]


def test_a_failing_post_lets_those_behind_it_pass() -> None:
    told: list[tuple[str, int]] = []
    release = threading.Event()

    def send(sent: Post) -> Failure | None:
        release.wait(20)
        return Failure("HTTP status 500", final=False) if sent.body == "bad" else None

    webhooks = Webhooks((0.2,), send)
    for body in ("bad", "good"):
        done = lambda outcome, body=body: told.append((body, outcome.attempts))  # noqa: E731
        webhooks.post(post("http://one.example", body=body, done=done))
    release.set()
    until(lambda: len(told) == 2)
    assert told == [("good", 1), ("bad", 2)]


def test_an_endpoints_line_is_bounded_and_the_rest_is_said_to_be_lost() -> None:
    told: list[Outcome] = []
    begun, release = threading.Event(), threading.Event()

    def send(_: Post) -> Failure | None:
        begun.set()
        release.wait(20)
        return None

    webhooks = Webhooks(send=send)
    webhooks.post(post("http://one.example"))
    assert begun.wait(20)
    for _ in range(LINE_LENGTH):
        webhooks.post(post("http://one.example"))
    assert told == []
    webhooks.post(post("http://one.example", told))
    assert [outcome.attempts for outcome in told] == [0]
    assert "others wait" in str(told[0].error)
    release.set()


def test_what_is_left_at_a_stop_is_said_to_be_undelivered(receiver: Receiver) -> None:
    held = threading.Event()
    receiver.answer(Answer(held=held))
    told: list[Outcome] = []
    webhooks = Webhooks()
    for _ in range(2):
        webhooks.post(post(receiver.url, told))
    until(lambda: receiver.requests)
    webhooks.stop(budget_s=0.05)
    assert told == [Outcome(1, STOPPED), Outcome(0, STOPPED)]
    webhooks.post(post(receiver.url, told))
    assert told[2:] == [Outcome(0, STOPPED)]
    held.set()


def test_who_has_unsubscribed_meanwhile_is_left_in_peace(receiver: Receiver) -> None:
    told: list[Outcome] = []
    webhooks = Webhooks(AT_ONCE)
    webhooks.post(post(receiver.url, told, wanted=lambda: False))
    webhooks.post(post(receiver.url, told))
    until(lambda: told)
    assert told == [Outcome(1, None)]
    assert len(receiver.requests) == 1


def certificate(directory: Path, host: str) -> Path:
    """A key and a certificate for a host, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{host}.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.public_bytes(pem))
    return file


def test_https_takes_a_certificate_that_is_trusted_and_names_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = (certificate(tmp_path, host) for host in ("localhost", "elsewhere.example"))
    with Receiver(right) as known, Receiver(wrong) as other:
        untrusted = deliver(post(known.url))
        monkeypatch.setenv("SSL_CERT_FILE", str(right))
        trusted = deliver(post(known.url))
        monkeypatch.setenv("SSL_CERT_FILE", str(wrong))
        misnamed = deliver(post(other.url))
        assert trusted is None
        assert untrusted is not None
        assert untrusted.final
        assert "certificate" in untrusted.reason
        assert misnamed is not None
        assert "localhost" in misnamed.reason
        assert (len(known.requests), other.requests) == (1, [])


def test_a_password_in_the_url_is_sent_as_such_and_shown_nowhere(receiver: Receiver) -> None:
    url = receiver.url.replace("//", "//me:p%40ss@") + "?key=1"
    assert deliver(post(url)) is None
    [request] = receiver.requests
    assert request.path == "/hook?key=1"
    assert request.headers["authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    assert "p%40ss" not in repr(post(url))
    assert shown(url) == receiver.url + "?..."


@pytest.mark.parametrize(
    "url",
    [
        "http://a:secret:c/",
        "http://me:sec/ret@host/",
        "http://host/a secret",
        "http://[::secret",
        "http://h" + "o" * 70 + "/secret",
    ],
)
def test_what_is_no_url_is_a_final_failure_and_not_quoted(url: str) -> None:
    assert deliver(post(url)) == Failure("not a URL", final=True)


def test_a_failed_post_says_no_secret_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Outcome] = []
    webhooks = Webhooks()
    for url in ("http://me:secret/secret@host/?key=secret", "http://[::secret"):
        webhooks.post(post(url, told))
    until(lambda: len(told) == 2)
    webhooks.stop()
    assert [outcome.error for outcome in told] == ["not a URL"] * 2
    assert len(caplog.messages) == 2
    assert "secret" not in caplog.text
