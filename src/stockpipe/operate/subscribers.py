"""Who is told of alerts, by which way and of which; whom to add, and whom to leave in peace.

A recipient is a subscription of the alerts topic: one per protocol and endpoint. What it is told
is narrowed by its filter policy on the attributes of a message
(https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import prod
from typing import Any, Self
from urllib.parse import urlsplit

from stockpipe.aws import Aws
from stockpipe.domain.clock import Clock
from stockpipe.errors import NotProvisioned, StockpipeError, UsageError
from stockpipe.infra.policies import policy
from stockpipe.infra.resource import absent_is_none, comparable_policy
from stockpipe.infra.resources.sns import (
    PENDING,
    asked_tag,
    attributes_of,
    comparable,
    listed,
    remember,
    tags_of,
)
from stockpipe.local.outbox import INVITATION, Outbox
from stockpipe.local.webhooks import shown

ALERTS, OPERATIONS = "alerts", "operations"
WEB = ("http", "https")
RAW_PROTOCOLS = (*WEB, "sqs")
"""Of ours, those that SNS can send the message alone, without the envelope around it."""
REMEMBERED = ("email", "sms")
"""What ``provision`` subscribes, and must not subscribe again."""
COMBINATIONS = 150
"""https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html"""
CONFIRM_BUDGET_S = 90.0
"""A webhook that does not answer is given up after four times 15 s and what lies between."""
_ATTRIBUTES = {"symbols": "symbol", "signals": "signal", "rules": "rule"}
_BY_ATTRIBUTES = "MessageAttributes"
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_QUEUE_ARN = re.compile(r"arn:(aws[a-z-]*):sqs:([a-z0-9-]+):(\d{12}):(.+)")
_QUEUE_URL = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)\.)?[^/]+/(\d{12})/([^/]+)")
_LINK = re.compile(r"visit http://(127\.0\.0\.1:\d+)(/\?\S+)")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a recipient wants to be told: any of each, and all three at once; empty means any."""

    symbols: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> Self | None:
        """That of a subscription; None where it says something that this class cannot."""
        policy = json.loads(attributes.get("FilterPolicy") or "{}")
        if policy and attributes.get("FilterPolicyScope", _BY_ATTRIBUTES) != _BY_ATTRIBUTES:
            return None
        values = [one for wanted in policy.values() for one in wanted]
        if policy.keys() - set(_ATTRIBUTES.values()) or not all(isinstance(v, str) for v in values):
            return None
        return cls(**{ours: tuple(policy.get(key, ())) for ours, key in _ATTRIBUTES.items()})

    @property
    def policy(self) -> dict[str, list[str]]:
        """The filter policy; ``{}`` lets everything through, and takes an older one away."""
        return {
            _ATTRIBUTES[one.name]: sorted(getattr(self, one.name))
            for one in fields(self)
            if getattr(self, one.name)
        }

    def widened(self, more: Filter) -> Filter:
        """What lets through all that either does. As one policy cannot tie values of different
        attributes together, that may be more than both: each attribute is widened by itself."""
        both = {}
        for one in fields(self):
            mine, other = getattr(self, one.name), getattr(more, one.name)
            both[one.name] = tuple(sorted({*mine, *other})) if mine and other else ()
        return Filter(**both)

    def lets(self, attributes: Mapping[str, str]) -> bool:
        return all(attributes[name] in wanted for name, wanted in self.policy.items())

    def check(self) -> None:
        """Raises :class:`UsageError` where SNS would refuse it for its size."""
        combinations = prod(map(len, self.policy.values()))
        if combinations > COMBINATIONS:
            raise UsageError(
                f"This filter has {combinations} combinations of values; SNS takes {COMBINATIONS}.",
                hint="Leave out the signals or the rules, or the symbols.",
            )


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One recipient. ``endpoint`` is as SNS tells it, so it may hold a key: show ``address``.

    A list of SNS tells no ``arn`` of one who is pending, and so neither ``policy``, ``filter`` nor
    ``raw``: then they are None. ``filter`` is also None where somebody else made the policy, in a
    way that is not ours. ``asked``: the day (UTC) on which he was asked last, where it is known.
    """

    topic: str
    protocol: str
    endpoint: str
    confirmed: bool
    arn: str | None
    filter: Filter | None = None
    policy: str | None = None
    raw: bool | None = None
    asked: str | None = None

    @property
    def address(self) -> str:
        return shown(self.endpoint) if self.protocol in WEB else self.endpoint

    def document(self) -> dict[str, Any]:
        known = json.loads(self.policy) if self.policy else None
        return {
            "topic": self.topic,
            "protocol": self.protocol,
            "endpoint": self.address,
            "status": "confirmed" if self.confirmed else "pending",
            "filter": known,
            "raw": self.raw,
            "asked": self.asked,
            "arn": self.arn,
        }


def subscribers(aws: Aws, *, operations: bool = True) -> list[Subscriber]:
    """Everybody, those of the ``operations`` topic last; raises :class:`NotProvisioned`."""
    names = aws.names
    found = [_listing(ALERTS, one) for one in _of_alerts(aws)]
    if operations:
        others = listed(aws, names.operations_topic_arn) or []
        found += [_listing(OPERATIONS, one) for one in others]
    tags = tags_of(aws, names.topic_arn)
    with ThreadPoolExecutor(8) as pool:  # one call for each
        read = pool.map(lambda one: _described(aws, one, tags), found)
        return [one for one in read if one]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``done``: ``subscribed``, ``asked again``, ``widened``, ``replaced`` or ``unchanged``."""

    done: str
    subscriber: Subscriber

    def document(self) -> dict[str, Any]:
        return {"done": self.done, **self.subscriber.document()}


def subscribe(
    aws: Aws,
    protocol: str,
    endpoint: str,
    wanted: Filter,
    *,
    only: bool = False,
    raw: bool | None = None,
) -> Outcome:
    """Tell this endpoint, too, what it wants; where it is told something, that as well.

    ``only``: instead of what it was told. ``raw``: without SNS's envelope; None leaves it as it
    is, and is yes for a new queue. Who has not confirmed is asked again.

    Raises :class:`NotProvisioned`, or :class:`UsageError` for a filter that cannot be merged, or
    is too large.
    """
    wanted.check()
    topic, sns = aws.names.topic_arn, aws.client("sns")
    place = {"TopicArn": topic, "Protocol": protocol, "Endpoint": endpoint}
    known = _find(aws, protocol, endpoint)
    if known is None:
        attributes = {"FilterPolicy": json.dumps(wanted.policy)} if wanted.policy else {}
        if raw or (raw is None and protocol == "sqs"):
            attributes["RawMessageDelivery"] = "true"
        made = sns.subscribe(**place, Attributes=attributes, ReturnSubscriptionArn=True)
        arn, done = made["SubscriptionArn"], "subscribed"
    else:
        arn, done = known.arn, "unchanged"
        if arn is None:
            # Without attributes: SNS refuses other ones of a subscription that is there. It asks
            # again, and is the only call that tells the ARN of one that is pending.
            arn = sns.subscribe(**place, ReturnSubscriptionArn=True)["SubscriptionArn"]
            done = "asked again"
        done = _adapt(aws, arn, wanted, only=only, raw=raw) or done
    fresh = known or Subscriber(ALERTS, protocol, endpoint, confirmed=False, arn=None)
    fresh = replace(fresh, arn=arn)
    asked = {}
    if protocol in REMEMBERED:  # second, as in infra.resources.sns
        asked[asked_tag(protocol, endpoint)] = remember(aws, topic, protocol, endpoint)
    return Outcome(done, _described(aws, fresh, asked) or fresh)


def unsubscribe(aws: Aws, addresses: list[str]) -> list[Subscriber]:
    """End the subscriptions of these addresses, URLs, queues or ARNs; returns whose they were.

    One that is pending cannot be ended (it has no ARN), and is returned as it is. All are found
    before any is ended; raises :class:`UsageError` for one that is not, :class:`NotProvisioned`.
    """
    topic = aws.names.topic_arn
    everybody = [_listing(ALERTS, one) for one in _of_alerts(aws)]
    chosen = list(chain.from_iterable(_answering_to(one, everybody) for one in addresses))
    chosen = list(dict.fromkeys(chosen))
    asked = tags_of(aws, topic) if any(one.protocol in REMEMBERED for one in chosen) else {}
    for one in chosen:
        # First: an address of the settings must not be seen as one that was never asked.
        if one.protocol in REMEMBERED and asked_tag(one.protocol, one.endpoint) not in asked:
            remember(aws, topic, one.protocol, one.endpoint)
        if one.arn:
            aws.client("sns").unsubscribe(SubscriptionArn=one.arn)
    return chosen


def _adapt(aws: Aws, arn: str, wanted: Filter, *, only: bool, raw: bool | None) -> str | None:
    """Give a subscription its filter and form; says what was done, None where nothing was."""
    attributes = attributes_of(aws, arn) or {}
    current, done = Filter.of(attributes), None
    if current is None and not only:
        raise UsageError(
            f"It has a filter that was not made here: {attributes['FilterPolicy']}",
            hint="--only replaces it.",
        )
    target = wanted if only or current is None else current.widened(wanted)
    target.check()

    def put(name: str, value: str) -> None:
        aws.client("sns").set_subscription_attributes(
            SubscriptionArn=arn, AttributeName=name, AttributeValue=value
        )

    if current is None or current.policy != target.policy:
        if current is None and "FilterPolicyScope" in attributes:
            put("FilterPolicy", "{}")  # a policy on bodies may be none on attributes
            put("FilterPolicyScope", _BY_ATTRIBUTES)
        put("FilterPolicy", json.dumps(target.policy))
        done = "replaced" if only else "widened"
    if raw is not None and raw != (attributes.get("RawMessageDelivery") == "true"):
        put("RawMessageDelivery", str(raw).lower())
        done = done or "replaced"
    return done


def _of_alerts(aws: Aws) -> list[dict[str, str]]:
    found = listed(aws, aws.names.topic_arn)
    if found is None:
        raise NotProvisioned(
            f"There is no topic {aws.names.topic}.", hint="Run `stockpipe provision` first."
        )
    return found


def _find(aws: Aws, protocol: str, endpoint: str) -> Subscriber | None:
    wanted = comparable(protocol, endpoint)
    everybody = [_listing(ALERTS, one) for one in _of_alerts(aws)]
    same = (
        one
        for one in everybody
        if one.protocol == protocol and comparable(protocol, one.endpoint) == wanted
    )
    return next(same, None)


def _listing(topic: str, one: Mapping[str, str]) -> Subscriber:
    arn = None if one["SubscriptionArn"] == PENDING else one["SubscriptionArn"]
    return Subscriber(topic, one["Protocol"], one["Endpoint"], confirmed=arn is not None, arn=arn)


def _described(aws: Aws, one: Subscriber, tags: Mapping[str, str]) -> Subscriber | None:
    """With what only a call of its own tells; None of one who has left meanwhile."""
    if one.topic == ALERTS:
        one = replace(one, asked=tags.get(asked_tag(one.protocol, one.endpoint)))
    if one.arn is None:
        return one
    attributes = attributes_of(aws, one.arn)
    if attributes is None:
        return None
    return replace(
        one,
        confirmed=attributes.get("PendingConfirmation") != "true",
        filter=Filter.of(attributes),
        policy=attributes.get("FilterPolicy") or "{}",
        raw=attributes.get("RawMessageDelivery") == "true",
    )


def _answering_to(address: str, everybody: list[Subscriber]) -> list[Subscriber]:
    """Whom an address means: those of exactly this one, else the one whom it names in short."""
    number = re.sub(r"[ ().-]", "", address)
    exactly = [
        one
        for one in everybody
        if one.arn == address
        or comparable(one.protocol, one.endpoint) == comparable(one.protocol, address)
        or (one.protocol == "sms" and one.endpoint == number)
    ]
    in_short = [one for one in everybody if address in (one.address, _queue_name(one))]
    found = exactly or in_short
    if not found:
        who = sorted({one.address for one in everybody})
        raise UsageError(
            f"{address} is not subscribed to alerts. Subscribed: {', '.join(who) or 'nobody'}.",
            hint="See `stockpipe alerts subscribers`.",
        )
    if len(found) > 1 and not exactly:
        raise UsageError(
            f"{address} means {len(found)} subscriptions.",
            hint="Give the whole URL, or the ARN that `stockpipe alerts subscribers --json` shows.",
        )
    return found


def _queue_name(one: Subscriber) -> str | None:
    return one.endpoint.rpartition(":")[2] if one.protocol == "sqs" else None


# Webhooks: which there may be, and those that cannot visit the link themselves.


def webhook(url: str, *, local: bool) -> str:
    """The protocol of a webhook's URL; raises :class:`UsageError`.

    Plain http tells everybody on the way what is said: it may only stay on this machine.
    """
    try:
        parts = urlsplit(url)
        sound = parts.hostname and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        sound = False
    if not sound or " " in url or parts.scheme not in WEB:
        raise UsageError(f"Not the URL of a webhook: {url!r}.", hint="It begins with https://.")
    if parts.scheme == "http" and not (local and parts.hostname in _LOOPBACK):
        raise UsageError(
            f"{shown(url)} is plain http.",
            hint="Use https; http is for 127.0.0.1 with --target local.",
        )
    return parts.scheme


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``failure``: why the webhook did not take its invitation, though it is confirmed."""

    subscriber: Subscriber
    failure: str | None = None


def confirm(
    aws: Aws, outbox: Outbox, pending: Subscriber, before: Collection[str], clock: Clock
) -> Confirmation:
    """Visit the link of a webhook's invitation for it, where it does not do so itself.

    For the embedded cloud alone: the link is in its outbox once the webhook has answered, or has
    been given up. ``before`` holds the ids of the messages that were there before it was invited.
    Raises :class:`StockpipeError` where none comes within CONFIRM_BUDGET_S.
    """
    deadline = clock.monotonic() + CONFIRM_BUDGET_S
    for messages in outbox.follow(clock):
        now = _described(aws, pending, {})
        if now is not None and now.confirmed:
            return Confirmation(now)
        for message in messages:
            link = _LINK.search(message.text)
            if (
                link
                and (message.type, message.topic) == (INVITATION, aws.names.topic_arn)
                and message.to == pending.address
                and message.message_id not in before
            ):
                _visit(link[1], link[2])
                now = _described(aws, pending, {})
                if now is not None and now.confirmed:
                    return Confirmation(now, message.error)
        if clock.monotonic() > deadline:
            break
    raise StockpipeError(
        f"{pending.address} has not been invited within {CONFIRM_BUDGET_S:.0f} s.",
        hint="See `stockpipe local outbox` and `stockpipe local logs`, and run it again.",
    )


def _visit(place: str, target: str) -> None:
    """Open a link of the embedded cloud. What it answers does not matter: one that was visited
    already is refused, and whether it has worked stands in the subscription."""
    connection = http.client.HTTPConnection(place, timeout=10)
    try:
        connection.request("GET", target)
        connection.getresponse().read()
    finally:
        connection.close()


# A queue has to let the topic in.


@dataclass(frozen=True, slots=True)
class Queue:
    """``url`` is None where it belongs to another account or region, and is not ours to change."""

    arn: str
    url: str | None
    policy: str | None = None
    key: str | None = None
    """The KMS key that it is encrypted with, if any."""


def queue(aws: Aws, given: str) -> Queue:
    """The queue of this ARN, URL or name; raises :class:`UsageError` where there is none.

    A FIFO queue can only follow a FIFO topic, which alerts are not sent to:
    https://docs.aws.amazon.com/sns/latest/dg/fifo-topic-message-delivery.html
    """
    home = aws.names.topic_arn.split(":")[:5]
    partition, region, account = home[1], home[3], home[4]
    name = given
    if match := _QUEUE_ARN.fullmatch(given):
        partition, region, account, name = match.groups()
    elif match := _QUEUE_URL.fullmatch(given):
        region, account, name = match[1] or region, match[2], match[3]
    if not _QUEUE_NAME.fullmatch(name):
        raise UsageError(f"Not the ARN, URL or name of a queue: {given!r}.")
    if name.endswith(".fifo"):
        raise UsageError(f"{name} is a FIFO queue; SNS cannot send alerts there, only to others.")
    arn = f"arn:{partition}:sqs:{region}:{account}:{name}"
    if arn.split(":")[:5] != [*home[:2], "sqs", *home[3:5]]:
        return Queue(arn, None)
    sqs = aws.client("sqs")
    wanted = ["KmsMasterKeyId", "Policy"]
    url = absent_is_none(lambda: sqs.get_queue_url(QueueName=name)["QueueUrl"], *_NO_QUEUE)
    if url is None:
        raise UsageError(f"There is no queue {name} in account {account}, {region}.")
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted).get("Attributes", {})
    if found.get("KmsMasterKeyId") == "alias/aws/sqs":
        raise UsageError(
            f"{name} is encrypted with alias/aws/sqs, a key that SNS may not use.",
            hint="Encrypt it with SSE-SQS, or with a key of your own that lets SNS use it.",
        )
    return Queue(arn, url, found.get("Policy"), found.get("KmsMasterKeyId"))


def sender(topic: str, queue_arn: str) -> dict[str, Any]:
    """The statement of a queue's policy that lets this topic send, and nobody else."""
    return {
        "Sid": f"StockpipeAlerts{hashlib.sha256(topic.encode()).hexdigest()[:8]}",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }


def let_in(aws: Aws, found: Queue) -> bool:
    """Add the statement where the queue's policy does not have it; says whether it was added.

    What else stands there stays. SQS cannot write on a condition, so somebody who writes it in
    the same moment may win; the command can be repeated.
    """
    statement = sender(aws.names.topic_arn, found.arn)
    document = json.loads(found.policy) if found.policy else policy()
    there = document.get("Statement", [])
    there = there if isinstance(there, list) else [there]
    if any(_says(one) == _says(statement) for one in there):
        return False
    kept = [one for one in there if one.get("Sid") != statement["Sid"]]  # ours, but spoiled
    changed = json.dumps({**document, "Statement": [*kept, statement]})
    aws.client("sqs").set_queue_attributes(QueueUrl=found.url, Attributes={"Policy": changed})
    return True


def _says(statement: Mapping[str, Any]) -> dict[str, Any]:
    """A statement without its name, such that two that say the same are equal."""
    [one] = comparable_policy({"Statement": [dict(statement)]})["Statement"]
    return {name: value for name, value in one.items() if name != "Sid"}
