"""A queue that follows the alerts: it has to let the topic in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.aws import Aws
from stockpipe.errors import UsageError
from stockpipe.infra.policies import policy
from stockpipe.infra.resource import absent_is_none, comparable_policy

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_QUEUE_ARN = re.compile(r"arn:(aws[a-z-]*):sqs:([a-z0-9-]+):(\d{12}):(.+)")
_QUEUE_URL = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)\.)?[^/]+/(\d{12})/([^/]+)")
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


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
