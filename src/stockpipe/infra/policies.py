"""Who may do what: one role per function, exact actions on exact ARNs.

Log groups exist before the functions, so no function may create one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stockpipe.domain.names import FAILURES_PREFIX, QUARANTINE_PREFIX, RAW_PREFIX, Names

VERSION = "2012-10-17"


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": VERSION, "Statement": list(statements)}


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
    bucket = names.bucket_arn(names.data_bucket)
    return policy(
        _allow(
            "ReadStream",
            [
                "kinesis:DescribeStream",
                "kinesis:DescribeStreamSummary",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
            ],
            [names.stream_arn],
        ),
        _allow("WriteItems", ["dynamodb:BatchWriteItem"], [names.table_arn]),
        _allow(
            "WriteObjects",
            ["s3:PutObject"],
            [f"{bucket}/{RAW_PREFIX}*", f"{bucket}/{QUARANTINE_PREFIX}*"],
        ),
        *_failures(bucket),
        _logs(names, names.process_log_group),
    )


def trend_policy(names: Names) -> dict[str, Any]:
    """What StockTrendAnalysis, and Lambda's poller on its behalf, may do."""
    return policy(
        _allow(
            "ReadTableStream",
            [
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
                "dynamodb:ListStreams",
            ],
            [f"{names.table_arn}/stream/*"],
        ),
        _allow("ReadItems", ["dynamodb:Query"], [names.table_arn]),
        _allow(
            "KeepAlerts",
            ["dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"],
            [names.alerts_table_arn],
        ),
        _allow("Publish", ["sns:Publish"], [names.topic_arn]),
        *_failures(names.bucket_arn(names.data_bucket)),
        _logs(names, names.trend_log_group),
    )


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


def _failures(bucket: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lambda checks both when it delivers a failed batch to S3.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    return (
        _allow("KeepFailures", ["s3:PutObject"], [f"{bucket}/{FAILURES_PREFIX}*"]),
        _allow("FindFailures", ["s3:ListBucket"], [bucket]),
    )


def _logs(names: Names, group: str) -> dict[str, Any]:
    return _allow(
        "WriteLogs",
        ["logs:CreateLogStream", "logs:PutLogEvents"],
        [f"{names.log_group_arn(group)}:*"],
    )
