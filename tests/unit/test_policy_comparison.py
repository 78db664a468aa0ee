"""When two policy documents say the same: what services rewrite is no difference, all else is."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from stockpipe.infra.resource import comparable_policy

BUCKET = "arn:aws:s3:::bucket"
ALLOW: dict[str, Any] = {
    "Sid": "Read",
    "Effect": "Allow",
    "Principal": {"AWS": ["arn:aws:iam::1:root", "arn:aws:iam::2:root"]},
    "Action": ["s3:GetObject", "s3:ListBucket"],
    "Resource": [BUCKET, f"{BUCKET}/*"],
    "Condition": {"StringEquals": {"aws:SourceAccount": ["1", "2"]}},
}
DENY: dict[str, Any] = {
    "Sid": "TlsOnly",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": [f"{BUCKET}/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def same(one: Any, other: Any) -> bool:
    return comparable_policy(one) == comparable_policy(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(ALLOW, {**ALLOW, "Action": ALLOW["Action"][::-1]}, id="order of actions"),
        pytest.param(
            {"NotAction": ["b:C", "a:B"], "NotResource": ["b", "a"]},
            {"NotAction": ["a:B", "b:C"], "NotResource": ["a", "b"]},
            id="order of what is left out",
        ),
        pytest.param(
            ALLOW, {**ALLOW, "Resource": ALLOW["Resource"][::-1]}, id="order of resources"
        ),
        pytest.param(DENY, {**DENY, "Resource": f"{BUCKET}/*"}, id="a list of one resource"),
        pytest.param(DENY, {**DENY, "Action": ["s3:*"]}, id="a list of one action"),
        pytest.param(
            ALLOW,
            {**ALLOW, "Principal": {"AWS": ALLOW["Principal"]["AWS"][::-1]}},
            id="order of principals",
        ),
        pytest.param(DENY, {**DENY, "Principal": {"AWS": "*"}}, id="everybody"),
        pytest.param(DENY, {**DENY, "Principal": {"AWS": ["*"]}}, id="everybody in a list"),
        pytest.param(
            {"NotPrincipal": "*"}, {"NotPrincipal": {"AWS": ["*"]}}, id="everybody but nobody"
        ),
        pytest.param(
            ALLOW,
            {**ALLOW, "Condition": {"StringEquals": {"aws:SourceAccount": ["2", "1"]}}},
            id="order of a condition's values",
        ),
        pytest.param(
            DENY,
            {**DENY, "Condition": {"Bool": {"aws:SecureTransport": [False]}}},
            id="a condition's value that is no text",
        ),
    ],
)
def test_a_statement_may_be_written_in_several_ways(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert same(policy(one), policy(other))


@pytest.mark.parametrize(
    "change",
    [
        {"Sid": "Other"},
        {"Effect": "Deny"},
        {"Action": ["s3:GetObject"]},
        {"Resource": [BUCKET]},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"Service": ["arn:aws:iam::1:root", "arn:aws:iam::2:root"]}},
        {"Condition": {"StringLike": {"aws:SourceAccount": ["1", "2"]}}},
        {"Condition": {"StringEquals": {"aws:SourceArn": ["1", "2"]}}},
        {"Condition": {"StringEquals": {"aws:SourceAccount": ["1"]}}},
        {"Condition": {}},
    ],
    ids=str,
)
def test_what_it_says_is_compared(change: dict[str, Any]) -> None:
    assert not same(policy(ALLOW), policy({**ALLOW, **change}))


def test_statements_may_come_in_any_order() -> None:
    assert same(policy(ALLOW, DENY), policy(DENY, ALLOW))


def test_a_statement_may_stand_alone_without_a_list() -> None:
    assert same(policy(DENY), {"Version": "2012-10-17", "Statement": DENY})


def test_a_statement_that_is_there_twice_stays_twice() -> None:
    assert not same(policy(ALLOW, ALLOW), policy(ALLOW))
    assert not same(policy(ALLOW, ALLOW, DENY), policy(ALLOW, DENY, DENY))


def test_the_version_is_compared() -> None:
    assert not same(policy(DENY), {"Version": "2008-10-17", "Statement": [DENY]})


def test_text_and_structure_are_the_same() -> None:
    assert same(policy(ALLOW, DENY), json.dumps(policy(ALLOW, DENY)))


def test_what_is_comparable_is_still_the_policy_and_what_was_given_is_untouched() -> None:
    given = policy(ALLOW, DENY)
    was = deepcopy(given)
    assert same(comparable_policy(given), given)
    assert given == was


@pytest.mark.parametrize("empty", ["{}", {}, policy()])
def test_no_statement_is_no_error(empty: Any) -> None:
    assert comparable_policy(empty)["Statement"] == []
