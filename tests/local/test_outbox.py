"""The outbox: what SNS would have sent lands there, as its recipient would read it, and stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned, client, kill, until
from stockpipe_cli import Cli, Result

from stockpipe.aws import Endpoint
from stockpipe.local import daemon
from stockpipe.local.home import Places
from stockpipe.local.outbox import Message, Outbox

pytest.importorskip("ministack")

MAIL = "me@example.com"
PHONE = "+15555550100"
SAMPLE = Message(
    time="2026-01-02T03:04:05.678Z",
    type="Notification",
    protocol="email",
    to=MAIL,
    subject="Stock Alert: AAPL",
    text="AAPL is in an Uptrend!\n\nPrice: 1 \N{EURO SIGN}",
    topic="arn:aws:sns:us-east-2:000000000000:t",
    attributes={"symbol": "AAPL"},
    message_id="m-1",
    status="kept",
)
_numbers = count()


def numbered(*numbers: int) -> list[Message]:
    return [replace(SAMPLE, message_id=str(number)) for number in numbers]


def ids(messages: Sequence[Message]) -> list[int]:
    return [int(message.message_id) for message in messages]


# The file.


def test_what_is_appended_is_read_back_in_order_and_by_its_owner_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.read() == []
    outbox.append(SAMPLE)
    outbox.append(*numbered(1, 2))
    assert outbox.read() == [SAMPLE, *numbered(1, 2)]
    assert stat.S_IMODE(outbox.path.stat().st_mode) == 0o600


def test_a_line_torn_anywhere_costs_itself_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(*numbered(1, 2))
    whole = outbox.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        outbox.path.write_bytes(whole[:cut])
        assert ids(outbox.read()) == [1]
        outbox.append(*numbered(3))
        # Only where nothing but the end of the line is missing, it is whole after all.
        assert ids(outbox.read()) == ([1, 2, 3] if cut == len(whole) - 1 else [1, 3])


def test_lines_of_another_make_are_passed_over(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.path.write_bytes(b'{"time": "x"}\n[]\n\xff\n\n')
    outbox.append(*numbered(1))
    assert ids(outbox.read()) == [1]


def test_the_newest_are_kept_within_bounds(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, segment_bytes=4_000)
    for number in range(200):
        outbox.append(*numbered(number))
    kept = ids(outbox.read())
    assert kept == list(range(kept[0], 200))
    line = len(outbox.path.with_name("outbox.1.jsonl").read_text().splitlines()[0]) + 1
    assert 4_000 // line <= len(kept) <= 2 * 4_000 // line + 2
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 4_000


class Steps:
    """A clock whose waits are the moments at which a test acts."""

    def __init__(self, *acts: Any) -> None:
        self._acts = iter(acts)

    def sleep(self, seconds: float) -> None:
        next(self._acts)()


def test_a_follower_sees_each_message_once_over_rotation_and_clearing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, segment_bytes=1_000)

    def add(*numbers: int) -> Any:
        def adding() -> None:
            for message in numbered(*numbers):
                outbox.append(message)

        return adding

    def torn() -> None:
        outbox.append(*numbered(8))
        whole = outbox.path.read_bytes()
        outbox.path.write_bytes(whole[:-5])
        kept.append(whole)

    def mended() -> None:
        outbox.path.write_bytes(kept[0])

    kept: list[bytes] = []
    outbox.append(*numbered(0))
    acts = (add(1, 2, 3, 4), add(), add(5, 50), outbox.clear, add(6), torn, mended)
    looks = outbox.follow(Steps(*acts))  # type: ignore[arg-type]
    seen = [ids(next(looks)) for _ in range(len(acts) + 1)]
    assert seen == [[0], [1, 2, 3, 4], [], [5, 50], [], [6], [], [8]]


WRITER = """
import sys
from pathlib import Path
from test_outbox import Outbox, numbered

outbox, number = Outbox(Path(sys.argv[1]), segment_bytes=50_000), 0
while True:
    outbox.append(*numbered(number, number + 1))
    number += 2
"""


def test_kill_9_while_writing_leaves_a_readable_outbox(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    tests = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    for _ in range(3):
        outbox.clear()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(tests)}
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=environment, stderr=subprocess.PIPE
        )
        until(lambda: outbox.read() and ids(outbox.read())[-1] > 500)
        writer.send_signal(signal.SIGKILL)
        assert writer.communicate()[1] == b""
        kept = ids(outbox.read())
        assert kept == list(range(kept[0], kept[-1] + 1))
        outbox.append(*numbered(kept[-1] + 1))
        assert ids(outbox.read())[-1] == kept[-1] + 1


# What SNS puts into it.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("outbox")) as home:
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    return daemon.ensure_running(home)


class Topic:
    """A topic of its own for a test, and what its recipients got."""

    def __init__(self, home: Path, cloud: Endpoint, **attributes: str) -> None:
        self.sns = client("sns", cloud)
        self.arn = self.sns.create_topic(Name=f"t{next(_numbers)}", Attributes=attributes)[
            "TopicArn"
        ]
        self._outbox = Outbox(Places(home).local)

    def subscribe(self, protocol: str, endpoint: str, **attributes: str) -> Any:
        return self.sns.subscribe(
            TopicArn=self.arn, Protocol=protocol, Endpoint=endpoint, Attributes=attributes
        )

    def publish(self, message: str, **rest: Any) -> str:
        return str(self.sns.publish(TopicArn=self.arn, Message=message, **rest)["MessageId"])

    def kept(self, *protocols: str) -> list[Message]:
        """Notifications, of some protocols or all."""
        return [
            one
            for one in self._outbox.read()
            if one.topic == self.arn
            and one.type == "Notification"
            and (not protocols or one.protocol in protocols)
        ]


@pytest.fixture
def topic(home: Path, cloud: Endpoint) -> Topic:
    return Topic(home, cloud)


def strings(**values: str) -> dict[str, dict[str, str]]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def test_a_mail_is_kept_as_it_would_be_read(topic: Topic) -> None:
    topic.subscribe("email", MAIL)
    sent = topic.publish(
        "one\n\ntwo \N{EURO SIGN}", Subject="S", MessageAttributes=strings(symbol="AAPL")
    )
    [mail] = topic.kept()
    assert (mail.protocol, mail.to, mail.subject) == ("email", MAIL, "S")
    assert mail.text == "one\n\ntwo \N{EURO SIGN}"
    assert (mail.message_id, mail.status) == (sent, "kept")
    assert mail.attributes == {"symbol": "AAPL"}


def test_a_mail_without_subject_has_the_one_that_aws_gives_it(topic: Topic) -> None:
    topic.subscribe("email", MAIL)
    topic.publish("m")
    assert [mail.subject for mail in topic.kept()] == ["AWS Notification Message"]


def test_email_json_is_the_whole_envelope(topic: Topic) -> None:
    topic.subscribe("email-json", MAIL)
    sent = topic.publish("m", Subject="S", MessageAttributes=strings(symbol="AAPL"))
    [mail] = topic.kept()
    envelope = json.loads(mail.text)
    assert (envelope["MessageId"], envelope["Message"], envelope["Subject"]) == (sent, "m", "S")
    assert envelope["MessageAttributes"] == {"symbol": {"Type": "String", "Value": "AAPL"}}


def test_a_new_mail_address_is_told_what_it_would_have_to_do_on_aws(
    home: Path, topic: Topic
) -> None:
    for _ in range(2):
        topic.subscribe("email", MAIL)
    told = [one for one in Outbox(Places(home).local).read() if one.topic == topic.arn]
    assert [(one.type, one.to) for one in told] == [("SubscriptionConfirmation", MAIL)]
    assert "click the link" in told[0].text
    [listed] = topic.sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    assert listed["SubscriptionArn"].startswith(topic.arn)  # confirmed for him


def test_an_sms_has_the_topics_name_before_it_and_1600_characters(
    home: Path, cloud: Endpoint
) -> None:
    named = Topic(home, cloud, DisplayName="Stock Alerts")
    named.subscribe("sms", PHONE)
    named.publish("x" * 2_000, Subject="not in an SMS")
    [sms] = named.kept()
    assert sms.text == "STOCK ALERTS> " + "x" * (1_600 - 14)
    assert (sms.to, sms.subject) == (PHONE, "")


def test_an_sms_without_a_topic_is_kept_too(home: Path, cloud: Endpoint) -> None:
    number = f"+1555555{next(_numbers):04d}"
    sent = client("sns", cloud).publish(
        PhoneNumber=number,
        Message=json.dumps({"default": "d", "sms": "short"}),
        MessageStructure="json",
        MessageAttributes=strings(a="b"),
    )
    [sms] = [one for one in Outbox(Places(home).local).read() if one.to == number]
    assert (sms.protocol, sms.text, sms.topic) == ("sms", "short", None)
    assert (sms.message_id, sms.attributes) == (sent["MessageId"], {"a": "b"})


def test_each_protocol_gets_its_own_text_of_a_message_in_json(topic: Topic) -> None:
    topic.subscribe("email", MAIL)
    topic.subscribe("sms", PHONE)
    parts = {"default": "long", "sms": "short", "email": ["not a text"]}
    topic.publish(json.dumps(parts), MessageStructure="json")
    assert {one.protocol: one.text for one in topic.kept()} == {"email": "long", "sms": "short"}


@pytest.mark.parametrize("message", ["no JSON", "[]", '{"sms": "short"}', '{"default": 1}'])
def test_a_message_in_json_without_a_default_is_refused(topic: Topic, message: str) -> None:
    topic.subscribe("email", MAIL)
    with pytest.raises(ClientError) as caught:
        topic.publish(message, MessageStructure="json")
    assert caught.value.response["Error"]["Code"] == "InvalidParameter"
    assert topic.kept() == []


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({"symbol": ["AAPL"]}, {"AAPL"}),
        ({"symbol": ["AAPL", "IBM"]}, {"AAPL", "IBM"}),
        ({"symbol": [{"prefix": "GO"}]}, {"GOOG"}),
        ({"symbol": [{"anything-but": ["AAPL", "GOOG"]}]}, {"IBM", "MSFT"}),
        ({"price": [{"numeric": [">=", 100, "<", 300]}]}, {"AAPL", "IBM"}),
        ({"symbol": ["AAPL", "MSFT"], "signal": ["death"]}, {"MSFT"}),
        ({"symbol": ["AAPL"], "absent": ["x"]}, set()),
        ({"absent": [{"exists": False}]}, {"AAPL", "GOOG", "IBM", "MSFT"}),
    ],
)
@pytest.mark.parametrize("scope", ["MessageAttributes", "MessageBody"])
def test_a_filter_lets_through_what_it_names(
    topic: Topic, policy: dict[str, Any], wanted: set[str], scope: str
) -> None:
    policies = {"FilterPolicy": json.dumps(policy), "FilterPolicyScope": scope}
    topic.subscribe("email", MAIL, **policies)
    for symbol, signal_name, price in (
        ("AAPL", "golden", 150),
        ("GOOG", "golden", 400),
        ("IBM", "death", 100),
        ("MSFT", "death", 24),
    ):
        attributes: dict[str, Any] = {
            **strings(symbol=symbol, signal=signal_name),
            "price": {"DataType": "Number", "StringValue": str(price)},
        }
        body = json.dumps({"symbol": symbol, "signal": signal_name, "price": price})
        of_scope = attributes if scope == "MessageAttributes" else {}
        topic.publish(body, Subject=symbol, MessageAttributes=of_scope)
    assert {mail.subject for mail in topic.kept()} == wanted


def test_queues_get_theirs_as_before_and_raw_where_asked(cloud: Endpoint, topic: Topic) -> None:
    sqs = client("sqs", cloud)
    topic.subscribe("email", MAIL)
    received = []
    for raw in ("false", "true"):
        allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}}
        statement = {**allow, "Action": "sqs:SendMessage", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        url = sqs.create_queue(QueueName=f"q{next(_numbers)}", Attributes={"Policy": policy})[
            "QueueUrl"
        ]
        asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        topic.subscribe(
            "sqs",
            asked["Attributes"]["QueueArn"],
            RawMessageDelivery=raw,
            FilterPolicy='{"symbol": ["AAPL"]}',
        )
        topic.publish("other", MessageAttributes=strings(symbol="IBM"))
        topic.publish("mine", MessageAttributes=strings(symbol="AAPL"))
        [message] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        received.append(message["Body"])
    assert json.loads(received[0])["Message"] == "mine"
    assert received[1] == "mine"
    assert len(topic.kept()) == 4


def test_who_has_unsubscribed_gets_nothing_more(topic: Topic) -> None:
    made = topic.subscribe("email", MAIL)
    topic.sns.unsubscribe(SubscriptionArn=made["SubscriptionArn"])
    topic.publish("m")
    assert topic.kept() == []


def test_what_was_kept_survives_a_kill_of_the_server(home: Path, topic: Topic) -> None:
    topic.subscribe("email", MAIL)
    topic.publish("m")
    kill(home)
    daemon.ensure_running(home)
    assert [mail.text for mail in topic.kept()] == ["m"]


@contextlib.contextmanager
def unwritable_outbox(home: Path) -> Iterator[None]:
    """Within, requests fail, and say why in SNS's own format."""
    file = Outbox(Places(home).local).path
    aside = file.rename(file.with_name("aside"))
    file.mkdir()
    try:
        with pytest.raises(ClientError) as caught:
            yield
    finally:
        file.rmdir()
        aside.rename(file)
    assert caught.value.response["Error"]["Code"] == "InternalError"
    assert "directory" in caught.value.response["Error"]["Message"]


def test_an_outbox_that_cannot_be_written_fails_the_publish(home: Path, topic: Topic) -> None:
    topic.subscribe("email", MAIL)
    with unwritable_outbox(home):
        topic.publish("m")


def test_an_outbox_that_cannot_be_written_fails_a_batch_and_an_sms(
    home: Path, cloud: Endpoint, topic: Topic
) -> None:
    topic.subscribe("email", MAIL)
    sns = client("sns", cloud)
    with unwritable_outbox(home):
        entries = [{"Id": "1", "Message": "m"}]
        sns.publish_batch(TopicArn=topic.arn, PublishBatchRequestEntries=entries)
    with unwritable_outbox(home):
        sns.publish(PhoneNumber="+10000000000", Message="m")


def test_an_invitation_that_cannot_be_kept_is_kept_at_the_next_attempt(
    home: Path, cloud: Endpoint, topic: Topic
) -> None:
    topic.subscribe("email", "another@example.com")
    with unwritable_outbox(home):
        topic.subscribe("email", MAIL)
    topic.subscribe("email", MAIL)
    sent = [one.to for one in Outbox(Places(home).local).read() if one.topic == topic.arn]
    assert sent == ["another@example.com", MAIL]


# The command, and the whole pipeline.


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stack with a mail address, after real prices, of 75 days, went through it."""
    with cleaned(tmp_path_factory.mktemp("alerted")) as home:
        cli = Cli(home)
        (home / "stockpipe.toml").write_text(f'notify_max_age = "off"\nemails = ["{MAIL}"]\n')
        daemon.ensure_running(home)
        cli.make()
        cli("stream", "--source", "replay:sample", "--speed", "max", "--count", "75")
        cli.settle()
        yield cli


def outbox(cli: Cli, *arguments: str) -> Result:
    return cli("local", "outbox", *arguments)


def test_every_alert_of_the_pipeline_is_one_mail(replayed: Cli) -> None:
    history = replayed("alerts", "history", "--json").lines
    invitation, *mails = outbox(replayed, "-n", "1000", "--json").lines
    assert invitation["type"] == "SubscriptionConfirmation"
    assert {mail["to"] for mail in mails} == {MAIL}
    told = [(mail["attributes"]["symbol"], mail["attributes"]["signal"]) for mail in mails]
    assert sorted(told) == sorted((one["symbol"], one["kind"]) for one in history)
    times = [line for mail in mails for line in mail["text"].splitlines() if "quote" in line]
    assert len(mails) == len(set(zip(told, times, strict=True))) == len(history) > 0


def test_a_person_reads_one_line_a_message_newest_last(replayed: Cli) -> None:
    said = outbox(replayed, "-n", "3").out.splitlines()
    newest = outbox(replayed, "-n", "3", "--json").lines
    assert len(said) == 3
    for line, mail in zip(said, newest, strict=True):
        first = mail["text"].splitlines()[0]
        assert line == f"{mail['time'][:19]}Z  email  {MAIL}  {mail['subject']}  {first}"
    whole = outbox(replayed, "-n", "1", "-v").out
    assert all(line in whole for line in newest[-1]["text"].splitlines())


def test_nothing_to_show_is_said_with_the_place_and_no_server_is_needed(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    for arguments in ((), ("--json",), ("--clear",)):
        found = outbox(cli, *arguments)
        assert found.out == ""
    empty = outbox(cli)
    assert str(Outbox(Places(tmp_path).local).path) in empty.err
    assert "--target aws" in empty.err
    assert not daemon.status(tmp_path).running


def test_it_is_read_and_cleared_without_a_server(tmp_path: Path) -> None:
    Places(tmp_path).make()
    Outbox(Places(tmp_path).local).append(
        replace(SAMPLE, text="a\x1b[2Jb"),
        replace(SAMPLE, protocol="http", status="failed", attempts=4, error="Connection refused"),
    )
    first, second = outbox(Cli(tmp_path)).out.splitlines()
    assert first.endswith("Stock Alert: AAPL  a [2Jb")  # nothing moves the cursor
    assert second.endswith("[NOT DELIVERED, 4 attempts: Connection refused]")
    outbox(Cli(tmp_path), "--clear")
    assert outbox(Cli(tmp_path)).out == ""


def test_a_follower_is_shown_what_comes_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    Places(tmp_path).make()
    kept, cli = Outbox(Places(tmp_path).local), Cli(tmp_path)
    kept.append(*numbered(1, 2))
    following = subprocess.Popen(
        cli.command("local", "outbox", "--follow", "--json", "-n", "1"),
        env=cli.environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        shown = [json.loads(following.stdout.readline())["message_id"]]
        kept.append(*numbered(3))
        shown.append(json.loads(following.stdout.readline())["message_id"])
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=20)[0] == ""
    finally:
        following.kill()
        following.wait()
    assert (shown, following.returncode) == (["2", "3"], 130)
