"""The judge of our requests is itself able to refuse."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from request_models import RequestModels

BAD = [
    ("kinesis", "create_stream", {"StreamName": "s" * 129}, ".StreamName: 129 is more than 128"),
    ("kinesis", "create_stream", {"StreamName": "a stream"}, "does not match"),
    (
        "dynamodb",
        "update_continuous_backups",
        {
            "TableName": "t",
            "PointInTimeRecoverySpecification": {
                "PointInTimeRecoveryEnabled": True,
                "RecoveryPeriodInDays": 36,
            },
        },
        ".PointInTimeRecoverySpecification.RecoveryPeriodInDays: 36.0 is more than 35",
    ),
    (
        "lambda",
        "create_event_source_mapping",
        {"FunctionName": "f", "FunctionResponseTypes": ["ReportEverything"]},
        ".FunctionResponseTypes[0]: 'ReportEverything' is none of",
    ),
    (
        "iam",
        "tag_role",
        {"RoleName": "r", "Tags": [{"Key": "what?", "Value": "v"}]},
        ".Tags[0].Key: 'what?' does not match",
    ),
    (
        "glue",
        "create_database",
        {"DatabaseInput": {"Name": "d", "Parameters": {"k" * 256: "v"}}},
        "(the key): 256 is more than 255",
    ),
    ("athena", "batch_get_named_query", {"NamedQueryIds": ["q"] * 51}, "51 is more than 50"),
]


@pytest.mark.parametrize(("service", "call", "params", "why"), BAD, ids=[bad[3] for bad in BAD])
def test_a_request_that_aws_would_refuse_is_named(
    service: str, call: str, params: dict[str, Any], why: str
) -> None:
    models = RequestModels()
    client = models.watch(
        boto3.client(  # type: ignore[call-overload]
            service,
            region_name="us-east-2",
            endpoint_url="http://127.0.0.1:9",  # discard: nothing listens, nothing leaves
            aws_access_key_id="none",
            aws_secret_access_key="none",
            config=Config(retries={"total_max_attempts": 1}),
        )
    )
    with pytest.raises((ClientError, EndpointConnectionError)):
        getattr(client, call)(**params)
    assert [refused for refused in models.refused if why in refused]
    assert len(models.sent) == 1
