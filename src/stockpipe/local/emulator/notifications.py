"""What becomes of a message that is published to SNS: mail, SMS and webhooks.

ministack logs "stub" for the first two, and posts the last without SNS's headers, once, following
redirects. Here mail and SMS go to the outbox, webhooks through ``local.webhooks`` and their end to
the outbox as well; queues and functions stay ministack's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.local.emulator.parts import replace
from stockpipe.local.outbox import NOTIFICATION, Message, Outbox
from stockpipe.local.webhooks import Outcome, Post, Webhooks, shown

MAIL = frozenset({"email", "email-json"})
WEB = frozenset({"http", "https"})
_OURS = MAIL | WEB | {"sms"}

NO_SUBJECT = "AWS Notification Message"
SMS_LENGTH = 1_600
AGENT = {
    "User-Agent": "Amazon Simple Notification Service Agent",
    "Content-Type": "text/plain; charset=UTF-8",
}

Response = tuple[int, dict[str, Any], Any]
_log = logging.getLogger(__name__)


def install(outbox: Outbox, webhooks: Webhooks, url: str) -> None:
    """All of it, once, before the server starts; ``url``: the embedded cloud's own.

    Raises LocalCloudError by :func:`replace`.
    """
    pick_by_protocol()
    deliver(Deliveries(outbox, webhooks, url))
    keep_direct_sms(outbox)


@dataclass(frozen=True, slots=True)
class Published:
    """A message as it was published."""

    topic: Mapping[str, Any]
    message_id: str
    text: str
    subject: str
    structure: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Brings a published message to subscriptions of our protocols."""

    outbox: Outbox
    webhooks: Webhooks
    url: str

    def bring(self, published: Published, subscriptions: list[dict[str, Any]]) -> None:
        """To the outbox at once, to webhooks later; raises OSError."""
        self.outbox.append(
            *(self._kept(published, one) for one in subscriptions if one["protocol"] not in WEB)
        )
        for one in subscriptions:
            if one["protocol"] in WEB:
                self.webhooks.post(self._post(published, one))

    def _kept(self, published: Published, subscription: Mapping[str, Any]) -> Message:
        message = _message(published, subscription)
        if subscription["protocol"] == "email-json":
            return changed(message, text=self._envelope(published, subscription))
        if subscription["protocol"] == "sms":
            return changed(message, subject="", text=sms_text(published.topic, message.text))
        return message

    def _post(self, published: Published, subscription: Mapping[str, Any]) -> Post:
        raw = subscription["attributes"].get("RawMessageDelivery") == "true"
        message = changed(_message(published, subscription), subject=published.subject)
        headers = {
            **AGENT,
            "x-amz-sns-message-type": NOTIFICATION,
            "x-amz-sns-message-id": published.message_id,
            "x-amz-sns-topic-arn": subscription["topic_arn"],
            "x-amz-sns-subscription-arn": subscription["arn"],
            **({"x-amz-sns-rawdelivery": "true"} if raw else {}),
        }
        return Post(
            subscription["endpoint"],
            headers,
            message.text if raw else self._envelope(published, subscription),
            wanted=lambda: is_there(subscription),
            done=lambda outcome: note(self.outbox, message, outcome),
        )

    def _envelope(self, published: Published, subscription: Mapping[str, Any]) -> str:
        """The JSON of https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html,
        with a signature that nobody can verify."""
        from ministack.services import sns

        envelope = json.loads(
            sns._build_envelope(
                subscription["topic_arn"],
                published.message_id,
                _text(published, subscription["protocol"]),
                published.subject,
                published.attributes,
                False,
            )
        )
        envelope["Timestamp"] = moment_text(SYSTEM_CLOCK.now())
        unsubscribe = f"Action=Unsubscribe&SubscriptionArn={subscription['arn']}"
        envelope["UnsubscribeURL"] = f"{self.url}/?{unsubscribe}"
        return json.dumps(envelope, ensure_ascii=False)


def deliver(deliveries: Deliveries) -> None:
    """In the fan-out of a topic, subscriptions of our protocols are ours."""
    from ministack.services import sns

    def fanout(
        topic_arn: str,
        message_id: str,
        message: str,
        subject: str,
        message_structure: str = "",
        message_attributes: Mapping[str, Any] | None = None,
        **fifo: str,
    ) -> None:
        topic = sns._topic_by_arn_any_scope(topic_arn)
        if topic is not None:
            attributes = message_attributes or {}
            published = Published(
                topic, message_id, message, subject, message_structure, attributes
            )
            deliveries.bring(published, list(chosen(published)))
        others(
            topic_arn, message_id, message, subject, message_structure, message_attributes, **fifo
        )

    def chosen(published: Published) -> Iterator[dict[str, Any]]:
        for one in published.topic["subscriptions"]:
            if one["protocol"] in _OURS and one["confirmed"]:
                text = _text(published, one["protocol"])
                if matches(one, published.attributes, text):
                    yield one

    def matches_others(subscription: Mapping[str, Any], *rest: Any) -> bool:
        return subscription["protocol"] not in _OURS and matches(subscription, *rest)

    others: Callable[..., None] = replace(sns, "_fanout", fanout)
    matches: Callable[..., bool] = replace(sns, "_matches_filter_policy", matches_others)


def pick_by_protocol() -> None:
    """MessageStructure=json: what is no JSON object with a text ``default`` is refused, and
    a protocol's entry that is no text is ignored.

    https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    """
    from ministack.services import sns

    def publish(
        topic_arn: str, message: Any, *rest: Any, message_structure: str = "", **named: Any
    ) -> Any:
        if message_structure == "json" and "default" not in _entries(message):
            raise sns.SnsPublishError(
                "InvalidParameter",
                "Invalid parameter: Message Structure - No default entry in JSON message body",
            )
        return original(topic_arn, message, *rest, message_structure=message_structure, **named)

    def resolve(message: str, structure: str, protocol: str) -> str:
        if structure != "json":
            return message
        entries = _entries(message)
        return entries.get(protocol, entries.get("default", message))

    original: Callable[..., Any] = replace(sns, "publish_internal", publish)
    replace(sns, "_resolve_message_for_protocol", resolve)


def keep_direct_sms(outbox: Outbox) -> None:
    """Publish to a phone number goes to the outbox."""
    from ministack.services import sns

    def publish(params: dict[str, Any]) -> Response:
        number = sns._p(params, "PhoneNumber")
        answer = original(params)
        if answer[0] == 200 and number and not _has_topic(params):
            outbox.append(_direct(params, number, answer[2]))
        return answer

    def _has_topic(params: dict[str, Any]) -> bool:
        return bool(sns._p(params, "TopicArn") or sns._p(params, "TargetArn"))

    def _direct(params: dict[str, Any], number: str, answer: bytes) -> Message:
        structure, text = sns._p(params, "MessageStructure"), sns._p(params, "Message")
        return Message(
            time=moment_text(SYSTEM_CLOCK.now()),
            type=NOTIFICATION,
            protocol="sms",
            to=number,
            subject="",
            text=sns._resolve_message_for_protocol(text, structure, "sms")[:SMS_LENGTH],
            topic=None,
            attributes=_values(sns._parse_message_attributes(params)),
            message_id=answer.decode().partition("<MessageId>")[2].partition("<")[0],
            status="kept",
        )

    original: Callable[..., Response] = replace(sns, "_publish", publish)


def sms_text(topic: Mapping[str, Any], text: str) -> str:
    """The topic's display name goes before an SMS, and 1,600 characters are the most:
    https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html"""
    name = topic["attributes"].get("DisplayName", "")
    return (f"{name.upper()}> {text}" if name else text)[:SMS_LENGTH]


def is_there(subscription: Mapping[str, Any]) -> bool:
    """Whether a subscription has not been removed, nor its topic; in any thread."""
    from ministack.services import sns

    arn = subscription["arn"]
    region, account = arn.split(":")[3:5]
    return bool(sns._sub_arn_to_topic.contains_scoped(account, region, arn))


def note(outbox: Outbox, message: Message, outcome: Outcome) -> None:
    """What became of a webhook's message."""
    ended = changed(
        message,
        time=moment_text(SYSTEM_CLOCK.now()),
        status="failed" if outcome.error else "delivered",
        attempts=outcome.attempts,
        error=outcome.error,
    )
    try:
        outbox.append(ended)
    except OSError as error:  # the webhook itself is over; there is nobody else to tell
        _log.error("outbox: %s is not noted: %s", ended.to, error.strerror or error)


def _message(published: Published, subscription: Mapping[str, Any]) -> Message:
    protocol, endpoint = subscription["protocol"], subscription["endpoint"]
    return Message(
        time=moment_text(SYSTEM_CLOCK.now()),
        type=NOTIFICATION,
        protocol=protocol,
        to=shown(endpoint) if protocol in WEB else endpoint,
        subject=published.subject or NO_SUBJECT,
        text=_text(published, protocol),
        topic=subscription["topic_arn"],
        attributes=_values(published.attributes),
        message_id=published.message_id,
        status="kept",
    )


def _text(published: Published, protocol: str) -> str:
    from ministack.services import sns

    text: str = sns._resolve_message_for_protocol(published.text, published.structure, protocol)
    return text


def _entries(message: Any) -> dict[str, str]:
    """The texts by protocol of a message in JSON; empty when it is none."""
    try:
        parsed = json.loads(message)
    except (TypeError, ValueError):
        return {}
    found = parsed if isinstance(parsed, dict) else {}
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _values(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: attribute.get("StringValue") or attribute.get("BinaryValue") or ""
        for name, attribute in attributes.items()
    }
