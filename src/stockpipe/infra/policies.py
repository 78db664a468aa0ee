"""Who may do what: one role per function, exact actions on exact ARNs.

Log groups exist before the functions, so no function may create one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stockpipe.domain.names import FAILURES_PREFIX, QUARANTINE_PREFIX, RAW_PREFIX, Names
from stockpipe.infra.permissions import ANY, Grant

VERSION = "2012-10-17"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": VERSION, "Statement": list(statements)}


def granting(grants: Iterable[Grant]) -> dict[str, Any]:
    """The policy that grants this and nothing else."""
    return policy(*(grant.statement() for grant in grants))


def trust_policy() -> dict[str, Any]:
    """Only Lambda. Who may hand the role to a function is what iam:PassRole decides."""
    return policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    )


def process_policy(names: Names) -> dict[str, Any]:
    """What ProcessStockData, and Lambda's poller on its behalf, may do."""
    return granting(process_grants(names))


def process_grants(names: Names) -> list[Grant]:
    bucket = names.bucket_arn(names.data_bucket)
    return [
        Grant("ReadStream", ("Lambda polls Kinesis",), (names.stream_arn,)),
        Grant("WriteItems", ("dynamodb.BatchWriteItem",), (names.table_arn,)),
        Grant(
            "WriteObjects",
            ("s3.PutObject",),
            (f"{bucket}/{RAW_PREFIX}*", f"{bucket}/{QUARANTINE_PREFIX}*"),
        ),
        *_failures(bucket),
        _logs(names, names.process_log_group),
    ]


def trend_policy(names: Names) -> dict[str, Any]:
    """What StockTrendAnalysis, and Lambda's poller on its behalf, may do."""
    return granting(trend_grants(names))


def trend_grants(names: Names) -> list[Grant]:
    polls = ("Lambda polls DynamoDB Streams",)
    return [
        Grant(
            "ReadTableStream",
            polls,
            (f"{names.table_arn}/stream/*",),
            only=("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
        ),
        # ListStreams has no resource types.
        Grant("FindTableStream", polls, (ANY,), only=("dynamodb:ListStreams",)),
        Grant("ReadItems", ("dynamodb.Query",), (names.table_arn,)),
        Grant(
            "KeepAlerts",
            (
                "dynamodb.GetItem",
                "dynamodb.PutItem",
                "dynamodb.Query",
                "dynamodb.Scan",
                "dynamodb.UpdateItem",
            ),
            (names.alerts_table_arn,),
        ),
        Grant("Publish", ("sns.Publish",), (names.topic_arn,)),
        *_failures(names.bucket_arn(names.data_bucket)),
        _logs(names, names.trend_log_group),
    ]


def tls_only(bucket_arn: str) -> dict[str, Any]:
    """A bucket policy that refuses plain HTTP."""
    return policy(
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket_arn, f"{bucket_arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


def _failures(bucket: str) -> tuple[Grant, Grant]:
    """Lambda checks both when it delivers a failed batch to S3."""
    kept = ("Lambda keeps failed batches",)
    return (
        Grant("KeepFailures", kept, (f"{bucket}/{FAILURES_PREFIX}*",), only=("s3:PutObject",)),
        Grant("FindFailures", kept, (bucket,), only=("s3:ListBucket",)),
    )


def _logs(names: Names, group: str) -> Grant:
    return Grant("WriteLogs", ("Lambda writes logs",), (f"{names.log_group_arn(group)}:*",))
