"""Least privilege, proved: who is granted what, and who used it, are the same.

The unmodified command runs as each operator, the functions run under their roles, all under IAM
enforcement (``privilege_cloud``); what was judged and what was called is written down, and compared
both ways with what is granted (``privileges``). What cannot be compared stands in ``UNCHECKED``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from privilege_cloud import BOUNDARY, BOUNDED, FUNCTIONS, NAMES, PLAIN, Cloud, end, live, recording
from privileges import Right, compare_calls, compare_rights, rights

from stockpipe.infra.operators import OPERATORS, operator_grants
from stockpipe.infra.permissions import ACTIONS, Grant
from stockpipe.infra.policies import granting, policy, process_grants, trend_grants
from stockpipe.settings import Settings

pytest.importorskip("ministack")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
PROCESS, TREND = FUNCTIONS
POLLED = "Lambda polls in the name of the role; here a runner of our own does, as root."
LOGGED = "Lambda writes the log; the embedded cloud does so without asking IAM."
FAILED = "Lambda delivers a failed batch to S3; here a runner of our own does, as root."
ATHENA = "Athena does it with the rights of the caller; here DuckDB reads and writes files."
INSIDE = (
    "Glue also checks what is in the database; the embedded cloud the database and what is above."
)

UNCHECKED: Mapping[Right, str] = {
    Right(PROCESS, "kinesis:*", "*"): POLLED,
    Right(TREND, "dynamodb:*", "*/stream/*"): POLLED,
    Right(TREND, "dynamodb:ListStreams", "*"): POLLED,
    Right(PROCESS, "logs:*", "*"): LOGGED,
    Right(TREND, "logs:*", "*"): LOGGED,
    Right(PROCESS, "s3:*", "*/aws/lambda/*"): FAILED,
    Right(PROCESS, "s3:ListBucket", "*"): FAILED,
    Right(TREND, "s3:*", "*"): FAILED,
    Right("provision", "iam:PassRole", "*"): "The embedded cloud does not check it.",
    Right("provision", "kinesis:StartStreamEncryption", "arn:aws:kms:*"): (
        "AWS checks the key too, the embedded cloud the stream only."
    ),
    Right("provision", "s3:TagResource", "*"): (
        "Tags in CreateBucket need it; the embedded cloud ignores them there. On all other "
        "resources the tagging action is used by itself as well."
    ),
    Right("read", "glue:GetDatabase", "*:database/default"): ATHENA,
    Right("read", "glue:GetPartitions", "*"): ATHENA,
    Right("read", "s3:*MultipartUpload*", "*"): ATHENA,
    Right("read", "s3:GetBucketLocation", "*"): ATHENA,
    Right("read", "s3:GetObject", "*"): ATHENA,
    Right("read", "s3:PutObject", "*"): ATHENA,
    Right("*", "lambda:ListTags", "*:function:*"): (
        "GetFunction shows tags to those only who may list them; the embedded cloud to everybody."
    ),
    Right("*", "glue:GetTables", "*:table/*"): INSIDE,
    Right("teardown", "glue:DeleteDatabase", "*/stock_data_db/[*]"): INSIDE,
}
"""Grants that the embedded cloud does not check, as patterns, and why. None of them may be used."""


def test_what_is_granted_is_what_is_used(tmp_path: Path) -> None:
    """Over the whole life of a stack, first without and then within a permissions boundary."""
    granted: set[Right] = set()
    operations: set[tuple[str, str]] = set()
    for role, grants in ((PROCESS, process_grants(NAMES)), (TREND, trend_grants(NAMES))):
        granted |= rights(role, granting(grants))
        operations |= named(role, grants)
    with recording(tmp_path) as cloud:
        for text, boundary, act in ((PLAIN, None, live), (BOUNDED, BOUNDARY, end)):
            cloud.configure(text)
            documents = cloud.policies()
            cloud.grant(documents)
            for name, document in documents.items():
                granted |= rights(name.split("-")[0], document)
            for operator in OPERATORS:
                settings = Settings(permissions_boundary=boundary)
                operations |= named(operator, operator_grants(operator, NAMES, settings))
            act(cloud)
        judged, called = cloud.judged(), cloud.called()
    free = {(who, name) for who, name in called if ACTIONS.get(name) == ()}
    found = compare_rights(granted, judged, UNCHECKED) + compare_calls(operations, called - free)
    assert not found, "\n".join(found)


def named(principal: str, grants: list[Grant]) -> set[tuple[str, str]]:
    """The operations that it calls itself: what AWS does in its name is no call of its own."""
    return {(principal, name) for grant in grants for name in grant.operations if name in ACTIONS}


def test_what_is_unchecked_is_documented() -> None:
    documented = " ".join(DOCUMENT.read_text("utf-8").split())
    for pattern, reason in UNCHECKED.items():
        assert reason in documented, reason
        assert f"`{pattern.action}`" in documented, pattern


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Operators within a permissions boundary, and nothing provisioned."""
    with recording(tmp_path_factory.mktemp("bounded")) as cloud:
        cloud.configure(BOUNDED)
        cloud.grant(cloud.policies())
        yield cloud


def test_an_operator_makes_no_role_beyond_the_boundary(bounded: Cloud) -> None:
    iam = bounded.client_of("provision", "iam")
    nobody = json.dumps(policy({"Effect": "Deny", "Action": "*", "Principal": "*"}))
    role = {"RoleName": PROCESS, "AssumeRolePolicyDocument": nobody}
    for boundary in ({}, {"PermissionsBoundary": f"{BOUNDARY}-other"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            iam.create_role(**role, **boundary)
    bounded.root("iam").create_role(**role)
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.put_role_policy(RoleName=PROCESS, PolicyName="stockpipe", PolicyDocument=nobody)
    iam.put_role_permissions_boundary(RoleName=PROCESS, PermissionsBoundary=BOUNDARY)
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.delete_role_permissions_boundary(RoleName=PROCESS)


def test_an_operator_maps_no_function_but_ours(bounded: Cloud) -> None:
    functions = bounded.client_of("provision", "lambda")
    request = {"EventSourceArn": NAMES.stream_arn, "StartingPosition": "LATEST"}
    with pytest.raises(ClientError, match="AccessDenied"):
        functions.create_event_source_mapping(FunctionName="Theirs", **request)
    with pytest.raises(ClientError) as refused:  # there is none, but it may be asked for
        functions.create_event_source_mapping(FunctionName=NAMES.process_function, **request)
    assert "AccessDenied" not in str(refused.value)


def test_a_reader_and_a_producer_change_nothing(bounded: Cloud) -> None:
    for operator in ("read", "produce"):
        with pytest.raises(ClientError, match="AccessDenied"):
            bounded.client_of(operator, "kinesis").delete_stream(StreamName=NAMES.stream)
