"""Webhooks of the embedded cloud: who is subscribed, by a link alone, and what a topic sends it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned, client, kill
from stock_emulator import flaws
from webhook_receiver import Answer, Receiver

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.local import daemon
from stockpipe.local.home import Places
from stockpipe.local.outbox import Message, Outbox
from stockpipe.local.webhooks import STOPPED

pytest.importorskip("ministack")


_numbers = count()


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
    connection = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=20)
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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


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
