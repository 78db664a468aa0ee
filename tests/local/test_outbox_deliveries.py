"""What SNS of the embedded cloud puts into the outbox: as its recipient would read it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned, client, kill
from outbox_messages import MAIL

from stockpipe.aws import Endpoint
from stockpipe.local import daemon
from stockpipe.local.home import Places
from stockpipe.local.outbox import Message, Outbox

pytest.importorskip("ministack")


PHONE = "+15555550100"
_numbers = count()


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
