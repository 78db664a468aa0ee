"""Every policy that is attached or printed is exact, within its limits, and clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from stockpipe.aws import Aws
from stockpipe.domain.names import Names
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.operators import (
    MANAGED_POLICY_LIMIT,
    OPERATORS,
    operator_grants,
    operator_policies,
)
from stockpipe.infra.permissions import ACTIONS, ANY, ON_BEHALF, Grant
from stockpipe.infra.policies import process_grants, trend_grants
from stockpipe.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # it leaves closing its files to Python
    import parliament

ACCOUNT = "123456789012"
NAMES = Names("default", "us-east-2", ACCOUNT)
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
PLAIN, BOUNDED = Settings(), Settings(permissions_boundary=BOUNDARY)

Document = dict[str, Any]

ESCALATION = "RESOURCE_POLICY_PRIVILEGE_ESCALATION"
ACCEPTED = {
    (ESCALATION, "s3:PutBucketPolicy"): "Provisioning is what makes the buckets TLS only.",
    (ESCALATION, "s3:PutLifecycleConfiguration"): "Provisioning lets query results expire.",
    ("RESOURCE_MISMATCH", "athena:ListTagsForResource"): (
        "parliament wants every type that can be tagged; a workgroup is one of them."
    ),
    ("UNKNOWN_CONDITION_FOR_ACTION", "iam:UpdateAssumeRolePolicy"): "Since 2026 it knows the key.",
    ("UNKNOWN_CONDITION_FOR_ACTION", "iam:DeleteRole"): "Since 2026 it knows the key.",
    ("MALFORMED", "neither Resource nor NotResource"): (
        "A trust policy has no resource: it belongs to its role. parliament knows others only."
    ),
}
"""Findings that stay, as (issue, part of the detail), and why."""


def attached() -> Iterator[tuple[str, Document]]:
    """Roles, their trust, and the policies of buckets and topics, as the blueprint has them."""
    aws = Aws(region=NAMES.region)
    aws.__dict__["account_id"] = ACCOUNT  # nobody is asked
    for resource in blueprint(aws, PLAIN):
        if resource.kind in ("role", "bucket", "topic"):
            for name, value in resource.desired().items():
                if isinstance(value, dict) and "Statement" in value:
                    yield f"{resource.id} {name}", value


def printed() -> Iterator[tuple[str, Document]]:
    for settings, how in ((PLAIN, ""), (BOUNDED, " within a boundary")):
        for name, document in operator_policies(NAMES, settings).items():
            yield f"{name}{how}", document


DOCUMENTS = dict([*attached(), *printed()])


def grants(settings: Settings = PLAIN) -> list[Grant]:
    of_operators = [grant for one in OPERATORS for grant in operator_grants(one, NAMES, settings)]
    return [*process_grants(NAMES), *trend_grants(NAMES), *of_operators]


def allowed(document: Document) -> Iterator[Document]:
    yield from (one for one in document["Statement"] if one["Effect"] == "Allow")


def findings(document: Document) -> set[tuple[str, str]]:
    policy = parliament.analyze_policy_string(json.dumps(document))
    return {(found.issue, str(found.detail) or found.issue) for found in policy.findings}


def test_the_blueprint_has_policies_of_roles_buckets_and_topics() -> None:
    assert {name.split("/")[0] for name, _ in attached()} == {"role", "bucket", "topic"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_parliament_finds_nothing_that_is_not_accepted(name: str) -> None:
    unknown = [
        (issue, detail)
        for issue, detail in findings(DOCUMENTS[name])
        if not any(issue == known and part in detail for known, part in ACCEPTED)
    ]
    assert unknown == []


def test_every_accepted_finding_is_still_found() -> None:
    found = {finding for document in DOCUMENTS.values() for finding in findings(document)}
    for known, part in ACCEPTED:
        assert any(issue == known and part in detail for issue, detail in found), part


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_action_is_a_pattern(name: str) -> None:
    for statement in allowed(DOCUMENTS[name]):
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert "*" not in action


def test_every_resource_is_named_where_aws_can_tell_them_apart() -> None:
    knows_resources = {
        f"{service['prefix']}:{action['privilege']}": any(
            one["resource_type"] for one in action["resource_types"]
        )
        for service in parliament.iam_definition
        for action in service["privileges"]
    }
    open_grants = [grant for grant in grants(BOUNDED) if ANY in grant.resources]
    assert open_grants
    for grant in open_grants:
        for action in grant.actions:
            assert not knows_resources[action], f"{grant.sid}: {action}"


def test_every_action_of_an_operation_is_granted_wherever_the_operation_is() -> None:
    for settings in (PLAIN, BOUNDED):
        for operator in OPERATORS:
            of_operator = operator_grants(operator, NAMES, settings)
            actions = {action for grant in of_operator for action in grant.actions}
            for grant in of_operator:
                for operation in grant.operations:
                    assert set({**ACTIONS, **ON_BEHALF}[operation]) <= actions, operation


def test_the_table_names_operations_that_boto3_has_and_policies_grant() -> None:
    session = botocore.session.Session()
    known = {
        f"{service}.{operation}"
        for service in {name.split(".")[0] for name in ACTIONS}
        for operation in session.get_service_model(service).operation_names
    }
    assert set(ACTIONS) <= known
    needed = {name for name, actions in ACTIONS.items() if actions} | set(ON_BEHALF)
    granted = {name for settings in (PLAIN, BOUNDED) for one in grants(settings)
               for name in one.operations}  # fmt: skip
    assert granted == needed


@pytest.mark.parametrize(
    ("stack", "region", "partition"),
    [
        ("default", "us-east-2", "aws"),
        ("production", "ap-southeast-2", "aws"),
        ("production", "us-gov-east-1", "aws-us-gov"),
    ],
)
def test_every_document_fits_into_a_managed_policy(stack: str, region: str, partition: str) -> None:
    boundary = f"arn:{partition}:iam::{ACCOUNT}:policy/{'b' * 128}"
    settings = Settings(permissions_boundary=boundary)
    for name, document in operator_policies(Names(stack, region, ACCOUNT), settings).items():
        assert len("".join(json.dumps(document).split())) <= MANAGED_POLICY_LIMIT, name


def test_roles_are_passed_to_lambda_alone() -> None:
    passing = [grant for grant in grants() if "iam:PassRole" in grant.actions]
    assert passing
    for grant in passing:
        assert grant.actions == ["iam:PassRole"]
        assert grant.condition == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
        assert set(grant.resources) == {
            NAMES.role_arn(NAMES.process_role), NAMES.role_arn(NAMES.trend_role),
        }  # fmt: skip


WRITES = {
    "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy",
}  # fmt: skip


def test_roles_are_written_only_within_the_boundary() -> None:
    writing = [grant for grant in grants(BOUNDED) if WRITES & set(grant.actions)]
    assert {action for grant in writing for action in grant.actions} == WRITES
    for grant in writing:
        assert grant.condition == {"ArnEquals": {"iam:PermissionsBoundary": BOUNDARY}}


def test_without_a_boundary_none_can_be_set() -> None:
    actions = {action for grant in grants() for action in grant.actions}
    assert "iam:PutRolePermissionsBoundary" not in actions
    assert "iam:DeleteRolePermissionsBoundary" in actions


def test_only_provision_and_teardown_can_write() -> None:
    for operator, may in (
        ("read", {"s3:AbortMultipartUpload", "s3:PutObject"}),
        ("produce", set()),
    ):
        for grant in operator_grants(operator, NAMES, PLAIN):
            for action in set(grant.actions) - may:
                verb = action.split(":")[1]
                reads = ("BatchGet", "Describe", "Get", "List", "Query", "Scan")
                assert verb.startswith(reads) or verb in (
                    "PutRecords", "StartQueryExecution", "StopQueryExecution",
                ), action  # fmt: skip


def config_policy(tmp_path: Path, *arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "stockpipe", "config", "policy", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_same_bytes_twice(tmp_path: Path) -> None:
    first, again = (config_policy(tmp_path, STOCKPIPE_ACCOUNT=ACCOUNT) for _ in range(2))
    assert first.stdout == again.stdout
    assert json.loads(first.stdout) == operator_policies(NAMES, PLAIN)


def test_one_document_is_printed_as_iam_takes_it(tmp_path: Path) -> None:
    (tmp_path / "stockpipe.toml").write_text(f"account = '{ACCOUNT}'\nstack = 'dev'\n")
    done = config_policy(tmp_path, "produce", "--region", "eu-west-1")
    document = json.loads(done.stdout)
    assert document["Version"] == "2012-10-17"
    assert f":eu-west-1:{ACCOUNT}:stream/stock-market-stream-dev" in done.stdout
    both = json.loads(config_policy(tmp_path, "provision").stdout)
    assert list(both) == ["provision-data", "provision-functions"]
    assert json.loads(config_policy(tmp_path, "provision-data").stdout) == both["provision-data"]


def test_without_account_and_credentials_it_says_what_to_set(tmp_path: Path) -> None:
    done = config_policy(tmp_path, AWS_EC2_METADATA_DISABLED="true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Set `account`" in done.stderr


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    done = config_policy(tmp_path, "admin", STOCKPIPE_ACCOUNT=ACCOUNT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "provision-data" in done.stderr
