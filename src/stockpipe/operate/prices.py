"""AWS list prices, dated, with the page where each can be checked.

United States dollars, without tax. They were copied from the AWS Price List (the data behind the
pricing pages, ``https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/index.json``) as published
records of it quote it; ``seen`` is the day of the record. docs/cost.md names the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

REFERENCE_REGION = "us-east-2"
REGIONS = frozenset({"us-east-1", "us-east-2", "us-west-2"})
"""Where these prices hold. They are equal in the three regions; elsewhere AWS charges others,
mostly more (Ireland, 2026-10: DynamoDB 13 %, logs 14 %, Lambda requests and S3 the same)."""

_KINESIS = "https://aws.amazon.com/kinesis/data-streams/pricing/"
_KMS = "https://aws.amazon.com/kms/pricing/"
_LAMBDA = "https://aws.amazon.com/lambda/pricing/"
_DYNAMODB = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
_S3 = "https://aws.amazon.com/s3/pricing/"
_GLUE = "https://aws.amazon.com/glue/pricing/"
_ATHENA = "https://aws.amazon.com/athena/pricing/"
_SNS = "https://aws.amazon.com/sns/pricing/"
_SMS = "https://aws.amazon.com/sns/sms-pricing/"
_CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/"


@dataclass(frozen=True, slots=True)
class Price:
    """``usd`` per ``unit``; ``free`` units a month and account cost nothing, for ever.

    Allowances that end (twelve months of S3, credits of a new account) are not counted.
    """

    service: str
    what: str
    unit: str
    usd: Decimal
    seen: str
    source: str
    free: Decimal = Decimal(0)


def _price(
    service: str, what: str, unit: str, usd: str, seen: str, source: str, *, free: str = "0"
) -> Price:
    return Price(service, what, unit, Decimal(usd), seen, source, Decimal(free))


PRICES: dict[str, Price] = {
    # The stream-hour was seen again on a bill of 2026-09.
    "stream-hours": _price(
        "Kinesis", "on-demand stream", "hour", "0.04", "2026-09-18", _KINESIS
    ),
    "stream-in": _price("Kinesis", "data in, on demand", "GB", "0.08", "2024-10", _KINESIS),
    "stream-out": _price("Kinesis", "data out, on demand", "GB", "0.04", "2024-10", _KINESIS),
    "stream-extended": _price(
        "Kinesis", "kept beyond 24 h, on demand", "GB-month", "0.10", "2024-10", _KINESIS
    ),
    "shard-hours": _price("Kinesis", "shards", "shard-hour", "0.015", "2024-10", _KINESIS),
    "put-units": _price(
        "Kinesis", "PUT payload units of 25 KB", "million", "0.014", "2024-10", _KINESIS
    ),
    "shard-extended": _price(
        "Kinesis", "kept beyond 24 h, by shard", "shard-hour", "0.02", "2024-10", _KINESIS
    ),
    "stream-long-term": _price(
        "Kinesis", "kept beyond 7 days", "GB-month", "0.023", "2024-10", _KINESIS
    ),
    "kms-requests": _price(
        "KMS", "requests of the encryption", "10,000", "0.03", "2026-08-08", _KMS,
        free="2",
    ),
    "invocations": _price(
        "Lambda", "requests", "million", "0.20", "2026-08-11", _LAMBDA, free="1"
    ),
    "gb-seconds": _price(
        "Lambda", "compute, arm64", "GB-second", "0.0000133334", "2026-08-11", _LAMBDA,
        free="400000",
    ),
    "table-writes": _price(
        "DynamoDB", "write request units", "million", "0.625", "2026-09-11", _DYNAMODB
    ),
    "table-reads": _price(
        "DynamoDB", "read request units", "million", "0.125", "2026-09-11", _DYNAMODB
    ),
    "table-storage": _price(
        "DynamoDB", "storage", "GB-month", "0.25", "2026-09-11", _DYNAMODB, free="25"
    ),
    "table-recovery": _price(
        "DynamoDB", "point-in-time recovery", "GB-month", "0.20", "2026-08-08", _DYNAMODB
    ),
    "object-puts": _price(
        "S3", "PUT and LIST requests", "thousand", "0.005", "2026-08-31", _S3
    ),
    "object-gets": _price("S3", "GET requests", "thousand", "0.0004", "2026-08-31", _S3),
    "object-storage": _price("S3", "storage", "GB-month", "0.023", "2026-08-31", _S3),
    "catalog-requests": _price(
        "Glue", "catalog requests", "million", "1.00", "2026-08-31", _GLUE, free="1"
    ),
    "query-scans": _price("Athena", "data scanned", "TB", "5.00", "2026-08-31", _ATHENA),
    "publishes": _price("SNS", "alerts published", "million", "0.50", "2026-08-08", _SNS, free="1"),
    "emails": _price(
        "SNS", "alerts by e-mail", "100,000", "2.00", "2026-06-13", _SNS, free="0.01"
    ),
    # To a number in the United States, by part, without the carrier's fee.
    "sms-parts": _price("SNS", "alerts by SMS (US)", "message part", "0.00645", "2026", _SMS),
    "log-bytes": _price(
        "CloudWatch", "logs ingested", "GB", "0.50", "2026-08-11", _CLOUDWATCH, free="5"
    ),
    "log-storage": _price(
        "CloudWatch", "logs kept", "GB-month", "0.03", "2026-08-11", _CLOUDWATCH
    ),
    "metrics": _price(
        "CloudWatch", "custom metrics", "metric-month", "0.30", "2026-08-08", _CLOUDWATCH,
        free="10",
    ),
    "alarms": _price(
        "CloudWatch", "alarms", "alarm-month", "0.10", "2026-08-08", _CLOUDWATCH, free="10"
    ),
    "dashboards": _price(
        "CloudWatch", "dashboards", "dashboard", "3.00", "2024-10", _CLOUDWATCH, free="3"
    ),
}  # fmt: skip
