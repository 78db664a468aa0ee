"""The comparison itself: it can fail, and names what is wrong."""

from __future__ import annotations

from privileges import Right, compare_calls, compare_rights, rights

from stockpipe.local.emulator.ledger import Entry

GRANTED = {
    Right("reader", "s3:GetObject", "arn:aws:s3:::b/*"),
    Right("reader", "s3:ListBucket", "arn:aws:s3:::b"),
    Right("reader", "s3:GetBucketLocation", "arn:aws:s3:::b"),
}
JUDGED = {
    Entry("reader", "s3:GetObject", "arn:aws:s3:::b/k", "Allow"),
    Entry("reader", "s3:ListBucket", "arn:aws:s3:::b", "Allow"),
}
REVIEWED = {Right("*", "s3:GetBucketLocation", "*")}


def test_what_is_granted_and_used_is_nothing_to_talk_of() -> None:
    assert compare_rights(GRANTED, JUDGED, REVIEWED) == []


def test_a_grant_that_is_added_is_named() -> None:
    spare = Right("reader", "s3:DeleteBucket", "arn:aws:s3:::b")
    assert compare_rights(GRANTED | {spare}, JUDGED, REVIEWED) == [
        "unused: reader s3:DeleteBucket arn:aws:s3:::b"
    ]


def test_a_resource_that_is_added_is_named() -> None:
    other = Right("reader", "s3:ListBucket", "arn:aws:s3:::c")
    assert compare_rights(GRANTED | {other}, JUDGED, REVIEWED) == [
        "unused: reader s3:ListBucket arn:aws:s3:::c"
    ]


def test_a_grant_that_is_removed_is_named() -> None:
    needed = Right("reader", "s3:ListBucket", "arn:aws:s3:::b")
    assert compare_rights(GRANTED - {needed}, JUDGED, REVIEWED) == [
        "missing: reader s3:ListBucket arn:aws:s3:::b"
    ]


def test_what_another_one_is_granted_does_not_count() -> None:
    other = Entry("writer", "s3:ListBucket", "arn:aws:s3:::b", "Allow")
    assert compare_rights(GRANTED, JUDGED | {other}, REVIEWED) == [
        "missing: writer s3:ListBucket arn:aws:s3:::b"
    ]


def test_a_denial_is_named() -> None:
    denied = Entry("reader", "s3:DeleteBucket", "arn:aws:s3:::b", "ImplicitDeny")
    assert compare_rights(GRANTED, JUDGED | {denied}, REVIEWED) == [
        "missing: reader s3:DeleteBucket arn:aws:s3:::b"
    ]


def test_a_reviewed_grant_that_is_checked_after_all_is_named() -> None:
    checked = Entry("reader", "s3:GetBucketLocation", "arn:aws:s3:::b", "Allow")
    assert compare_rights(GRANTED, JUDGED | {checked}, REVIEWED) == [
        "reviewed as unchecked, but checked: reader s3:GetBucketLocation arn:aws:s3:::b"
    ]


def test_a_review_of_what_is_not_granted_is_named() -> None:
    gone = Right("reader", "sqs:*", "*")
    assert compare_rights(GRANTED, JUDGED, REVIEWED | {gone}) == [
        "reviewed, but not granted: reader sqs:* *"
    ]


def test_calls_are_compared_both_ways() -> None:
    called = {("reader", "s3.HeadBucket"), ("reader", "s3.GetObject")}
    assert compare_calls(called, called) == []
    assert compare_calls(called, {("reader", "s3.HeadBucket"), ("w", "s3.GetObject")}) == [
        "called, but not granted: w s3.GetObject",
        "granted, but not called: reader s3.GetObject",
    ]


def test_a_document_grants_every_action_on_every_resource() -> None:
    statement = {"Action": ["a:X", "a:Y"], "Resource": ["r1", "r2"]}
    assert rights("who", {"Statement": [statement]}) == {
        Right("who", action, resource) for action in ("a:X", "a:Y") for resource in ("r1", "r2")
    }
