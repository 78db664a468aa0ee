"""Invoking a mapping's function, and keeping what it could not process.

https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html describe the record that
a destination receives; the latter two name the difference between a call that never came to be
(retried without limit but age) and one that failed.
"""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from stockpipe.domain.clock import Clock
from stockpipe.local.event_sources.batching import Segment, first_failure
from stockpipe.local.event_sources.mappings import EventMapping
from stockpipe.local.event_sources.readers import error_code
from stockpipe.local.event_sources.sources import ClientFor, StreamSource, iso_ms

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]

ROLE_LIFE_S = 60.0
_BATCH_ERRORS = frozenset(
    {
        "InvalidRequestContentException",
        "RequestEntityTooLargeException",
        "RequestTooLargeException",
    }
)
"""Invoke refuses what is in the batch: no retry of the same call can help, a split can."""


class Unavailable(Exception):
    """The function could not be called: throttled, missing, pending, or nobody answered."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """``done`` leading records are complete. ``reported``: the function itself named a failure.

    ``error`` is the kind of function error (Unhandled), ``message`` what it said.
    """

    done: int
    request_id: str
    version: str
    reported: bool = False
    error: str | None = None
    message: str | None = None


class Functions:
    """Calls functions, and knows their roles. Safe to use from several threads."""

    def __init__(self, connect: ClientFor, clock: Clock) -> None:
        self._connect, self._clock = connect, clock
        self._lock = threading.Lock()
        self._roles: dict[str, tuple[str, float]] = {}

    def role(self, mapping: EventMapping) -> str:
        """The ARN of the function's execution role, at most a minute old. botocore's errors."""
        now = self._clock.monotonic()
        with self._lock:
            role, until = self._roles.get(mapping.function, ("", 0.0))
        if now < until:
            return role
        client = self._connect("lambda", mapping.region)
        found = client.get_function_configuration(FunctionName=mapping.function)["Role"]
        with self._lock:
            self._roles[mapping.function] = (found, now + ROLE_LIFE_S)
        return str(found)

    def invoke(self, mapping: EventMapping, segment: Segment) -> Invocation:
        """Send a batch and wait for the function. Raises :class:`Unavailable`."""
        client = self._connect("lambda", mapping.region)
        options = {"Qualifier": mapping.qualifier} if mapping.qualifier else {}
        try:
            answer = client.invoke(
                FunctionName=mapping.function,
                InvocationType="RequestResponse",
                Payload=segment.event().encode("ascii"),
                **options,
            )
            payload = answer["Payload"].read()
        except ClientError as error:
            if error_code(error) in _BATCH_ERRORS:
                return Invocation(
                    0, _request_id(error.response), "$LATEST", error="Unhandled", message=str(error)
                )
            raise Unavailable(str(error)) from error
        except (BotoCoreError, OSError) as error:
            # The function may have run. Sent again, as AWS does: at least once.
            raise Unavailable(str(error)) from error
        count = len(segment.records)
        done, reported, error_kind, message = count, False, answer.get("FunctionError"), None
        if error_kind:
            done, message = 0, _error_message(payload)
        elif mapping.policy.partial:
            done = first_failure(payload, segment.sequences)
            reported = done < count
            if reported:
                message = f"the function reported {segment.sequences[done]} as failed"
        return Invocation(
            done,
            _request_id(answer),
            answer.get("ExecutedVersion") or "$LATEST",
            reported,
            error_kind,
            message,
        )


def _request_id(answer: Any) -> str:
    found = answer.get("ResponseMetadata", {}).get("RequestId")
    return str(found or uuid.uuid4())


def _error_message(payload: bytes) -> str:
    try:
        fields = json.loads(payload)
        return f"{fields.get('errorType', 'Error')}: {fields.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return payload[:500].decode("utf-8", "replace")


def failure_record(
    mapping: EventMapping,
    source: StreamSource,
    shard: str,
    segment: Segment,
    condition: Condition,
    invocation: Invocation | None,
    now: float,
) -> dict[str, Any]:
    """What a destination is told about a discarded batch; ``now`` in epoch seconds.

    An age that ran out has no response, and a failure that the function itself reported has no
    functionError: so AWS sends them.
    """
    first, last = segment.records[0], segment.records[-1]
    qualifier = f":{mapping.qualifier}" if mapping.qualifier else ""
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": invocation.request_id if invocation else str(uuid.uuid4()),
            "functionArn": mapping.function + qualifier,
            "condition": condition,
            "approximateInvokeCount": max(1, segment.invocations),
        }
    }
    if condition == "RetryAttemptsExhausted" and invocation:
        response: dict[str, Any] = {"statusCode": 200, "executedVersion": invocation.version}
        if invocation.error:
            response["functionError"] = invocation.error
        record["responseContext"] = response
    return record | {
        "version": "1.0",
        "timestamp": iso_ms(now),
        source.batch_info: {
            "shardId": shard,
            "startSequenceNumber": first.sequence,
            "endSequenceNumber": last.sequence,
            "approximateArrivalOfFirstRecord": source.moment(first.arrived),
            "approximateArrivalOfLastRecord": source.moment(last.arrived),
            "batchSize": len(segment.records),
            "streamArn": mapping.source,
        },
    }


def deliver(
    connect: ClientFor,
    mapping: EventMapping,
    shard: str,
    record: dict[str, Any],
    segment: Segment,
    now: float,
) -> str:
    """Send a failure record to the mapping's destination, and say where it went.

    Only S3 gets the payload: the whole event "as an escaped JSON string", so it is parsed twice.
    Raises botocore's errors; nothing is delivered then.
    """
    destination = mapping.destination or ""
    _, _, service, region, account, name = destination.split(":", 5)
    if service == "s3":
        at = datetime.fromtimestamp(now, UTC)
        key = f"aws/lambda/{mapping.uuid}/{shard}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
        connect("s3", mapping.region).put_object(
            Bucket=name,
            Key=key,
            Body=json.dumps(record | {"payload": segment.event()}).encode("utf-8"),
            ContentType="application/json",
            ExpectedBucketOwner=mapping.account,
        )
        return f"s3://{name}/{key}"
    text = json.dumps(record)
    if service == "sqs":
        queues = connect("sqs", region)
        url = queues.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        queues.send_message(QueueUrl=url, MessageBody=text)
    else:
        connect("sns", region).publish(TopicArn=destination, Message=text)
    return destination
