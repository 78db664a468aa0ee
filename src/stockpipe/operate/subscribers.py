"""Who is told of alerts, by which way and of which; whom to add, and whom to leave in peace.

A recipient is a subscription of the alerts topic: one per protocol and endpoint. What it is told
is narrowed by its filter policy on the attributes of a message
(https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from stockpipe.aws import Aws
from stockpipe.errors import NotProvisioned, UsageError
from stockpipe.infra.resources.sns import (
    PENDING,
    asked_tag,
    attributes_of,
    comparable,
    listed,
    remember,
    tags_of,
)
from stockpipe.local.webhooks import shown
from stockpipe.operate.filters import BY_ATTRIBUTES, Filter

ALERTS, OPERATIONS = "alerts", "operations"
WEB = ("http", "https")
RAW_PROTOCOLS = (*WEB, "sqs")
"""Of ours, those that SNS can send the message alone, without the envelope around it."""
REMEMBERED = ("email", "sms")
"""What ``provision`` subscribes, and must not subscribe again."""


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
        read = pool.map(lambda one: described(aws, one, tags), found)
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
    return Outcome(done, described(aws, fresh, asked) or fresh)


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
            put("FilterPolicyScope", BY_ATTRIBUTES)
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


def described(aws: Aws, one: Subscriber, tags: Mapping[str, str]) -> Subscriber | None:
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
