"""Webhooks: what an endpoint is sent, when it is sent again, and who may make it be sent."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from embedded import cleaned, client, kill, until
from stock_emulator import flaws
from webhook_receiver import Answer, Receiver

from stockpipe.aws import Endpoint
from stockpipe.local import daemon
from stockpipe.local.home import Places
from stockpipe.local.outbox import Message, Outbox
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
_numbers = count()


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


# Against the embedded cloud.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("webhooks")) as home:
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    return daemon.ensure_running(home)


def topic(cloud: Endpoint) -> str:
    made = client("sns", cloud).create_topic(Name=f"webhook-{next(_numbers)}")
    return str(made["TopicArn"])


def noted(home: Path, topic_arn: str) -> list[Message]:
    return [one for one in Outbox(Places(home).local).read() if one.topic == topic_arn]


def visit(cloud: Endpoint, target: str, method: str = "GET", body: str = "") -> tuple[int, str]:
    """Status and body of what the embedded cloud answers to somebody without any key."""
    connection = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=10)
    connection.request(method, target, body=body)
    answer = connection.getresponse()
    said = answer.read().decode()
    connection.close()
    return answer.status, said


def subscribed(cloud: Endpoint, receiver: Receiver, topic_arn: str, **attributes: str) -> str:
    """A subscription whose webhook has visited its link; out: its ARN."""
    made = client("sns", cloud).subscribe(
        TopicArn=topic_arn,
        Protocol="http",
        Endpoint=receiver.url,
        Attributes=attributes,
        ReturnSubscriptionArn=True,
    )
    [request] = until(lambda: receiver.of_type("SubscriptionConfirmation"))
    status, said = visit(cloud, request.json["SubscribeURL"].removeprefix(cloud.url))
    assert (status, made["SubscriptionArn"] in said) == (200, True)
    return str(made["SubscriptionArn"])


def test_a_webhook_gets_nothing_until_it_has_visited_its_link(
    home: Path, cloud: Endpoint, receiver: Receiver
) -> None:
    sns, arn = client("sns", cloud), topic(cloud)
    made = sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=receiver.url)
    assert made["SubscriptionArn"] == "pending confirmation"
    [request] = until(lambda: receiver.of_type("SubscriptionConfirmation"))
    assert request.headers["x-amz-sns-topic-arn"] == request.json["TopicArn"] == arn
    assert request.headers["x-amz-sns-message-id"] == request.json["MessageId"]
    sns.publish(TopicArn=arn, Message="too early")
    assert visit(cloud, request.json["SubscribeURL"].removeprefix(cloud.url))[0] == 200
    published = sns.publish(TopicArn=arn, Subject="s", Message="in time")["MessageId"]
    [notification] = until(lambda: receiver.of_type("Notification"))
    [listed] = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    known = sns.get_subscription_attributes(SubscriptionArn=listed["SubscriptionArn"])["Attributes"]
    assert known["ConfirmationWasAuthenticated"] == "false"
    assert (
        notification.headers
        | {
            "content-type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-id": published,
            "x-amz-sns-topic-arn": arn,
            "x-amz-sns-subscription-arn": listed["SubscriptionArn"],
        }
        == notification.headers
    )
    envelope = notification.json
    assert envelope.keys() == {
        "Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "SignatureVersion",
        "Signature", "SigningCertURL", "UnsubscribeURL",
    }  # fmt: skip
    assert (envelope["Type"], envelope["MessageId"]) == ("Notification", published)
    assert (envelope["Subject"], envelope["Message"]) == ("s", "in time")
    until(lambda: len(noted(home, arn)) == 2)
    assert [(one.type, one.status) for one in noted(home, arn)] == [
        ("SubscriptionConfirmation", "delivered"),
        ("Notification", "delivered"),
    ]
    assert request.json["SubscribeURL"] in noted(home, arn)[0].text


def test_subscribing_again_sends_the_link_again(cloud: Endpoint, receiver: Receiver) -> None:
    sns, arn = client("sns", cloud), topic(cloud)
    for _ in range(2):
        sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=receiver.url)
    until(lambda: len(receiver.requests) == 2)
    first, second = receiver.of_type("SubscriptionConfirmation")
    assert first.json["Token"] == second.json["Token"]
    assert len(sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]) == 1


def test_nothing_but_a_link_opens_the_door(cloud: Endpoint, receiver: Receiver) -> None:
    sns, arn, other = client("sns", cloud), topic(cloud), topic(cloud)
    sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=receiver.url)
    [request] = until(lambda: receiver.requests)
    token = quote(request.json["Token"])
    link = f"/?Action=ConfirmSubscription&TopicArn={arn}&Token={token}"
    refused = [
        ("GET", link + "x"),
        ("GET", link.removesuffix(token)),
        ("GET", f"/?Action=ConfirmSubscription&TopicArn={other}&Token={token}"),
        ("GET", f"/?Action=ConfirmSubscription&TopicArn={arn}:x&Token={token}"),
        ("GET", f"/?Action=DeleteTopic&TopicArn={arn}&Token={token}"),
        ("GET", f"/?Action=Unsubscribe&SubscriptionArn={arn}:1"),
        ("GET", f"{link}&Action=DeleteTopic"),
        ("GET", f"{link}&Token={token}"),
        ("GET", f"{link}&Name=more"),
        ("GET", f"/bucket{link}"),
        ("HEAD", link),
        ("POST", link),
        ("POST", "/"),
    ]
    for method, target in refused:
        body = link.removeprefix("/?") if target == "/" else ""
        status, _ = visit(cloud, target, method, body)
        assert status >= 400, target
    [listed] = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    assert listed["SubscriptionArn"] == "PendingConfirmation"
    assert visit(cloud, link)[0] == 200
    status, said = visit(cloud, link)  # once is enough
    assert status == 403
    assert "MissingAuthenticationToken" in said


def test_a_confirmation_survives_a_kill(home: Path, cloud: Endpoint, receiver: Receiver) -> None:
    sns, arn = client("sns", cloud), topic(cloud)
    snapshot = Places(home).state / "snapshot.jsonl"

    def saved(state: str) -> bool:
        """Whether the snapshot knows the subscription in this state."""
        lines = snapshot.read_text().splitlines() if snapshot.exists() else []
        kept = [line for line in lines if line.startswith("service sns ") and receiver.url in line]
        return bool(kept) and f'"PendingConfirmation": "{state}"' in kept[0].split(receiver.url)[-1]

    sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=receiver.url)
    until(lambda: saved("true"))
    [request] = until(lambda: receiver.requests)
    assert visit(cloud, request.json["SubscribeURL"].removeprefix(cloud.url))[0] == 200
    until(lambda: saved("false"))
    kill(home)
    again = client("sns", daemon.ensure_running(home))
    [listed] = again.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    assert listed["SubscriptionArn"].startswith(arn)
    again.publish(TopicArn=arn, Message="after")
    [request] = until(lambda: receiver.of_type("Notification"))
    assert request.json["Message"] == "after"


def test_publish_returns_while_a_webhook_is_slow(
    home: Path, cloud: Endpoint, receiver: Receiver
) -> None:
    sns, arn = client("sns", cloud), topic(cloud)
    subscribed(cloud, receiver, arn)
    sns.subscribe(TopicArn=arn, Protocol="sms", Endpoint="+15555550100")
    held = threading.Event()
    receiver.answer(Answer(held=held))
    sns.publish(TopicArn=arn, Message="1")
    until(lambda: receiver.of_type("Notification"))
    sns.publish(TopicArn=arn, Message="2")
    before = [one.text for one in noted(home, arn) if one.type == "Notification"]
    held.set()
    assert before == ["1", "2"]  # the SMS; the webhook has not answered

    until(lambda: len([one for one in noted(home, arn) if one.protocol == "http"]) == 3)
    assert [one.text for one in noted(home, arn) if one.protocol == "http"][1:] == ["1", "2"]


def test_raw_delivery_sends_the_message_alone(cloud: Endpoint, receiver: Receiver) -> None:
    arn = topic(cloud)
    subscribed(cloud, receiver, arn, RawMessageDelivery="true")
    client("sns", cloud).publish(TopicArn=arn, Subject="s", Message='{"a": 1}')
    [request] = until(lambda: receiver.of_type("Notification"))
    assert request.body == '{"a": 1}'
    assert request.headers["x-amz-sns-rawdelivery"] == "true"


def test_each_message_is_posted_once(home: Path, cloud: Endpoint, receiver: Receiver) -> None:
    arn = topic(cloud)
    subscribed(cloud, receiver, arn)
    messages = [str(number) for number in range(20)]
    for message in messages:
        client("sns", cloud).publish(TopicArn=arn, Message=message)
    until(lambda: len(noted(home, arn)) == 1 + len(messages))
    assert [one.json["Message"] for one in receiver.of_type("Notification")] == messages


def test_a_refused_delivery_is_in_the_outbox_and_in_the_log(
    home: Path, cloud: Endpoint, receiver: Receiver
) -> None:
    arn = topic(cloud)
    subscribed(cloud, receiver, arn)
    receiver.answer(Answer(410))
    client("sns", cloud).publish(TopicArn=arn, Subject="lost", Message="m")
    until(lambda: len(noted(home, arn)) == 2)
    failed = noted(home, arn)[1]
    assert (failed.status, failed.attempts, failed.error) == ("failed", 1, "HTTP status 410")
    assert (failed.subject, failed.text, failed.to) == ("lost", "m", receiver.url)
    assert any("HTTP status 410" in line for line in daemon.tail_log(home, 50))


def test_a_stop_leaves_no_delivery_untold(home: Path, cloud: Endpoint, receiver: Receiver) -> None:
    arn = topic(cloud)
    subscribed(cloud, receiver, arn)
    held = threading.Event()
    receiver.answer(Answer(held=held))
    client("sns", cloud).publish(TopicArn=arn, Message="m")
    until(lambda: receiver.of_type("Notification"))
    daemon.stop(home)
    held.set()
    assert [(one.status, one.error) for one in noted(home, arn)][1:] == [("failed", STOPPED)]


@pytest.mark.parametrize(
    "endpoint",
    ["file:///etc/passwd", "https://example.com/", "http:///x", "http://[::1", "http://a:b/c@d"],
)
def test_an_endpoint_that_is_no_url_of_its_protocol_is_refused(
    cloud: Endpoint, endpoint: str
) -> None:
    with pytest.raises(ClientError) as caught:
        client("sns", cloud).subscribe(TopicArn=topic(cloud), Protocol="http", Endpoint=endpoint)
    assert caught.value.response["Error"]["Code"] == "InvalidParameter"


STOCK = """
import asyncio
import inspect
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import ministack.app
from ministack.services import sns

found, asked = {}, []

# notifications.pick_by_protocol
sns._create_topic({"Name": "t"})
(arn,) = sns._topics
said = {"TopicArn": arn, "Message": '{"sms": 1}', "MessageStructure": "json"}
found["a message in JSON needs no default"] = sns._publish(said)[0] == 200
picked = sns._resolve_message_for_protocol('{"default": "d", "sms": 1}', "json", "sms")
found["what is no text is picked"] = picked == 1

# notifications.deliver
source = inspect.getsource(sns._fanout)
found["mail is logged only"] = "email %s (stub)" in source
found["SMS is logged only"] = "SMS %s (stub)" in source

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(dict(self.headers))
        self.send_error(500)

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
asyncio.run(sns._deliver_to_http(url, "{}"))
found["a webhook has one chance"] = len(asked) == 1
found["a webhook is not told the topic"] = "x-amz-sns-topic-arn" not in asked[0]

# subscriptions.refuse_other_schemes
found["a file is an endpoint"] = not sns._validate_subscription_endpoint("http", "file:///x")

# subscriptions.invite
async def subscribe():
    wanted = {"TopicArn": arn, "Protocol": "http", "Endpoint": url, "ReturnSubscriptionArn": "true"}
    return sns._subscribe(wanted)[2]
found["ReturnSubscriptionArn is not heard"] = b">pending confirmation<" in asyncio.run(subscribe())

print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there() -> None:
    found = flaws(STOCK)
    assert len(found) == 8
    assert [flaw for flaw, there in found.items() if not there] == []
