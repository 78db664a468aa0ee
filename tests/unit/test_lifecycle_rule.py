"""After how many days a bucket's objects expire, by our lifecycle rule as S3 gives it back."""

from __future__ import annotations

from typing import Any

import pytest

from stockpipe.infra.resources.s3 import expires_after, expiring

OURS = expiring(7)


def test_our_rule_says_after_how_many_days() -> None:
    assert expires_after([OURS]) == 7
    assert expires_after([]) is None


def test_it_is_found_among_those_of_others() -> None:
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}}
    assert expires_after([{**theirs, "Expiration": {"Days": 1}}, OURS]) == 7
    assert expires_after([{**theirs, "Expiration": {"Days": 1}}]) is None


@pytest.mark.parametrize(
    "rewritten",
    [
        {"Filter": {}},
        {"Filter": {}, "Prefix": ""},
        {"NoncurrentVersionExpiration": {"NoncurrentDays": 7}},
        {"Expiration": {"Days": 7, "ExpiredObjectDeleteMarker": False}},
        {"Transitions": []},
    ],
    ids=str,
)
def test_defaults_that_are_written_into_it_are_no_difference(rewritten: dict[str, Any]) -> None:
    assert expires_after([{**OURS, **rewritten}]) == 7


def test_it_may_have_no_filter_at_all() -> None:
    assert expires_after([{name: OURS[name] for name in OURS if name != "Filter"}]) == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"ID": "another"},
        {"Status": "Disabled"},
        {"Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"Filter": {"Prefix": "logs/"}},
        {"Filter": {"Tag": {"Key": "a", "Value": "b"}}},
        {"Filter": {"ObjectSizeGreaterThan": 0}},
        {"Filter": {"And": {"Prefix": "", "ObjectSizeGreaterThan": 1}}},
        {"Filter": {}, "Prefix": "logs/"},
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}},
        {"AbortIncompleteMultipartUpload": {}},
    ],
    ids=str,
)
def test_a_rule_that_does_something_else_is_not_ours(changed: dict[str, Any]) -> None:
    assert expires_after([{**OURS, **changed}]) is None
