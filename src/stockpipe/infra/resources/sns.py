"""The topics, and who is subscribed to them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.aws import Aws
from stockpipe.domain.names import Names
from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code
from stockpipe.infra.policies import policy
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    comparable_policy,
    tag_list,
    tag_map,
    together,
)
from stockpipe.infra.waiting import await_gone

KEY = "alias/aws/sns"
ASKED_TAG = "stockpipe:asked:"
"""On a topic, followed by a digest: this recipient was asked once, on the day that is its value."""

PENDING = "PendingConfirmation"
"""What stands for the ARN, in a list, of a recipient who has not confirmed yet."""

_GONE = ("NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException")
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@/]*@")


def publish_over_tls(topic_arn: str) -> dict[str, Any]:
    """A topic policy that refuses plain HTTP; who of the account may publish is IAM's to say."""
    return policy(_tls_only(topic_arn))


def alarms_may_publish(names: Names, topic_arn: str) -> dict[str, Any]:
    """The topic policy by which this account's alarms, and nobody else's, may publish."""
    allow = {
        "Sid": "AlarmsPublish",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic_arn,
        "Condition": {
            "StringEquals": {"aws:SourceAccount": names.account},
            "ArnLike": {"aws:SourceArn": names.alarm_arn("*")},
        },
    }
    return policy(allow, _tls_only(topic_arn))


def _tls_only(topic_arn: str) -> dict[str, Any]:
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sns:Publish",
        "Resource": topic_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def topic_arn(names: Names, topic: str) -> str:
    return names.topic_arn.rsplit(":", 1)[0] + f":{topic}"


@dataclass
class Topic(Resource):
    """A standard topic, ``encrypted`` at rest; ``policy``: who may publish, None: not compared.

    CloudWatch alarms cannot publish to a topic under the key ``aws/sns``, whose policy nobody can
    change: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    """

    kind = "topic"
    precious = True

    display_name: str = "Stock Alerts"
    encrypted: bool = True
    policy: dict[str, Any] | None = None

    def desired(self) -> dict[str, Any]:
        return {
            "key": KEY if self.encrypted else None,
            "display_name": self.display_name,
            **({"policy": comparable_policy(self.policy)} if self.policy else {}),
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        sns = self.aws.client("sns")
        answer, tags = together(
            lambda: absent_is_none(lambda: sns.get_topic_attributes(TopicArn=self.arn), *_GONE),
            lambda: tags_of(self.aws, self.arn),
        )
        if answer is None:
            return None
        attributes = answer["Attributes"]
        settings = {
            "key": attributes.get("KmsMasterKeyId") or None,
            "display_name": attributes.get("DisplayName", ""),
            "policy": comparable_policy(attributes.get("Policy") or "{}"),
        }
        return self.standing(settings, tags, self.arn)

    def create(self) -> None:
        attributes = {"DisplayName": self.display_name}
        if self.encrypted:
            attributes["KmsMasterKeyId"] = KEY
        if self.policy:
            attributes["Policy"] = json.dumps(self.policy)
        self.aws.client("sns").create_topic(
            Name=self.name, Attributes=attributes, Tags=tag_list(self.tags)
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        sns = self.aws.client("sns")
        if "tags" in changes:
            sns.tag_resource(ResourceArn=self.arn, Tags=tag_list(self.tags))
        values = {
            "key": ("KmsMasterKeyId", KEY if self.encrypted else ""),
            "display_name": ("DisplayName", self.display_name),
            "policy": ("Policy", json.dumps(self.policy)),
        }
        for setting, (attribute, value) in values.items():
            if setting in changes:
                sns.set_topic_attributes(
                    TopicArn=self.arn, AttributeName=attribute, AttributeValue=value
                )

    def delete(self) -> None:
        sns = self.aws.client("sns")
        sns.delete_topic(TopicArn=self.arn)  # of a topic that is gone is no error

        def status() -> str | None:
            found = absent_is_none(lambda: sns.get_topic_attributes(TopicArn=self.arn), *_GONE)
            return found and "deleting"

        await_gone(self.id, status)

    @property
    def arn(self) -> str:
        return topic_arn(self.names, self.name)


@dataclass
class Subscription(Resource):
    """One recipient of a topic, known by topic, ``protocol`` and ``endpoint``.

    SNS keeps no trace of who has unsubscribed, and there is no state file. So the topic remembers
    in a tag whom we have ever asked (a digest: tags are no place for addresses), and who is
    remembered but no longer there is left in peace, unless ``asked`` for in this very call.
    A recipient who has not confirmed yet is where we want him: the rest is his to do.
    """

    kind = "subscription"

    topic: str = ""
    protocol: str = "email"
    endpoint: str = ""
    asked: bool = False

    def desired(self) -> dict[str, Any]:
        return {"remembered": True, **({"subscribed": True} if self.asked else {})}

    def read(self) -> Live | None:
        found, tags = together(self._find, lambda: tags_of(self.aws, self._topic_arn))
        remembered, ours = self.remembered_by in tags, self.is_ours(tags)
        if found is None and not remembered:
            return None
        settings = {"remembered": remembered, "subscribed": found is not None}
        if found is None:
            return Live(settings, ours=ours, arn=self._topic_arn, state="unsubscribed")
        pending = found == PENDING
        return Live(
            settings,
            ours=ours,
            arn=self._topic_arn if pending else found,
            state="pending" if pending else "confirmed",
        )

    def create(self) -> None:
        sns = self.aws.client("sns")
        # A retry must not send a second invitation.
        if self._find() is None:
            sns.subscribe(
                TopicArn=self._topic_arn,
                Protocol=self.protocol,
                Endpoint=self.endpoint,
                ReturnSubscriptionArn=True,
            )
        # Second: killed in between, a recipient without the tag is seen and gets it.
        self._remember()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        if "subscribed" in changes:
            self.create()
        elif "remembered" in changes:
            self._remember()

    def delete(self) -> None:
        """Nothing: he goes with the topic, which is only ever deleted along with him, and whose
        deletion ends its subscriptions, unconfirmed ones too. To unsubscribe him first would make
        a teardown that is killed in between look as if he had left by himself.

        https://docs.aws.amazon.com/sns/latest/api/API_DeleteTopic.html
        """

    @property
    def _topic_arn(self) -> str:
        return topic_arn(self.names, self.topic)

    @property
    def remembered_by(self) -> str:
        return asked_tag(self.protocol, self.endpoint)

    def _find(self) -> str | None:
        """The subscription's ARN, ``PendingConfirmation``, or None where there is none."""
        wanted = comparable(self.protocol, self.endpoint)
        for one in listed(self.aws, self._topic_arn) or []:
            found = comparable(self.protocol, one["Endpoint"])
            if (one["Protocol"], found) == (self.protocol, wanted):
                return one["SubscriptionArn"]
        return None

    def _remember(self) -> None:
        remember(self.aws, self._topic_arn, self.protocol, self.endpoint)


def listed(aws: Aws, topic: str) -> list[dict[str, str]] | None:
    """The topic's subscriptions as SNS lists them (``SubscriptionArn``, ``Protocol``,
    ``Endpoint``), without those that have ended; None where there is no such topic."""
    pages = aws.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = absent_is_none(lambda: [one for page in pages for one in page["Subscriptions"]], *_GONE)
    return found and [one for one in found if one["SubscriptionArn"] != "Deleted"]


def attributes_of(aws: Aws, subscription: str) -> dict[str, str] | None:
    """A subscription's attributes by its ARN, None where there is none."""
    sns = aws.client("sns")
    answer = absent_is_none(
        lambda: sns.get_subscription_attributes(SubscriptionArn=subscription), *_GONE
    )
    return answer and dict(answer["Attributes"])


def asked_tag(protocol: str, endpoint: str) -> str:
    known = f"{protocol}:{comparable(protocol, endpoint)}"
    return ASKED_TAG + hashlib.sha256(known.encode()).hexdigest()[:12]


def remember(aws: Aws, topic: str, protocol: str, endpoint: str) -> str:
    """Note on the topic that this recipient was asked today; returns the day (UTC).

    Raises :class:`ProvisionError` where the topic has no room for more.
    """
    today = datetime.now(UTC).date().isoformat()
    tag = {"Key": asked_tag(protocol, endpoint), "Value": today}
    try:
        aws.client("sns").tag_resource(ResourceArn=topic, Tags=[tag])
    except ClientError as error:
        if error_code(error) not in ("TagLimitExceeded", "TagLimitExceededException"):
            raise
        raise ProvisionError(
            f"topic {topic.rpartition(':')[2]} has as many tags as it may have, and remembers "
            "recipients in tags.",
            hint=f"Remove tags of former recipients ({ASKED_TAG}...) from the topic, "
            "or subscribe a mailing list.",
        ) from error
    return today


def tags_of(aws: Aws, topic: str) -> dict[str, str]:
    sns = aws.client("sns")
    answer = absent_is_none(lambda: sns.list_tags_for_resource(ResourceArn=topic), *_GONE)
    return tag_map(answer["Tags"]) if answer else {}


def comparable(protocol: str, endpoint: str) -> str:
    """An endpoint such that two that are the same are equal.

    Addresses that differ in case only are one mailbox nearly everywhere; a mail host that tells
    them apart is discouraged (RFC 5321, 2.4), and two invitations are worse than one. SNS gives a
    webhook's URL back with stars for its password.
    """
    if protocol.startswith("email"):
        return endpoint.casefold()
    return _PASSWORD.sub(r"\1****@", endpoint) if protocol.startswith("http") else endpoint
