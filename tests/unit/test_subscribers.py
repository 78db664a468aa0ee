"""Filters and how they are merged, which webhooks there may be, how a test alert is marked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.rules import PriceRule
from stockpipe.domain.signals import KINDS
from stockpipe.errors import UsageError
from stockpipe.infra.resources.sns import asked_tag, comparable
from stockpipe.operate.alerts import TEST_MARK, TEST_NOTE, beyond, marked, sample
from stockpipe.operate.filters import COMBINATIONS, Filter
from stockpipe.operate.invitations import webhook
from stockpipe.operate.queues import sender
from stockpipe.operate.subscribers import Subscriber

NOW = "2026-11-20T15:00:00.000Z"
TOPIC = "arn:aws:sns:us-east-2:123456789012:Stock_Trend_Alerts"


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


filters = st.builds(Filter, some("AAPL", "MSFT", "IBM"), some(*KINDS), some("a", "b"))
messages = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["AAPL", "MSFT", "IBM", "GOOG"]),
        "signal": st.sampled_from(KINDS),
        "rule": st.sampled_from(["a", "b", "c"]),
    }
)


@given(filters, filters, messages)
def test_a_widened_filter_lets_through_what_either_did(
    one: Filter, other: Filter, message: dict[str, str]
) -> None:
    if one.lets(message) or other.lets(message):
        assert one.widened(other).lets(message)
    assert one.widened(other).policy == other.widened(one).policy
    assert one.widened(one).policy == one.policy


@given(filters)
def test_a_filter_is_read_back_from_its_policy(chosen: Filter) -> None:
    read = Filter.of({"FilterPolicy": json.dumps(chosen.policy)})
    assert read is not None
    assert read.policy == chosen.policy


def test_everything_stays_everything() -> None:
    assert Filter().widened(Filter(("AAPL",))).policy == {}
    assert Filter.of({}) == Filter.of({"FilterPolicy": "{}"}) == Filter()


def test_values_of_one_attribute_are_alternatives_and_attributes_are_combined() -> None:
    chosen = Filter(("AAPL", "MSFT"), ("golden",))
    assert chosen.policy == {"symbol": ["AAPL", "MSFT"], "signal": ["golden"]}
    assert chosen.lets({"symbol": "MSFT", "signal": "golden", "rule": "r"})
    assert not chosen.lets({"symbol": "MSFT", "signal": "death", "rule": "r"})
    assert not chosen.lets({"symbol": "IBM", "signal": "golden", "rule": "r"})


@pytest.mark.parametrize(
    "attributes",
    [
        {"FilterPolicy": '{"price": ["1"]}'},
        {"FilterPolicy": '{"symbol": [{"prefix": "A"}]}'},
        {"FilterPolicy": '{"$or": [{"symbol": ["A"]}, {"signal": ["golden"]}]}'},
        {"FilterPolicy": '{"symbol": ["A"]}', "FilterPolicyScope": "MessageBody"},
        {"FilterPolicy": '{"symbol": {"nested": ["A"]}}', "FilterPolicyScope": "MessageBody"},
    ],
)
def test_a_filter_made_elsewhere_is_not_mistaken_for_ours(attributes: dict[str, str]) -> None:
    assert Filter.of(attributes) is None


def test_a_filter_beyond_the_limit_of_sns_is_refused_before_it_is_asked() -> None:
    symbols = tuple(f"S{number}" for number in range(COMBINATIONS // 5))
    Filter(symbols, KINDS).check()
    with pytest.raises(UsageError, match="155 combinations"):
        Filter((*symbols, "ONE-MORE"), KINDS).check()


@pytest.mark.parametrize(
    ("url", "local", "protocol"),
    [
        ("https://example.com/hook?key=1", False, "https"),
        ("https://me:secret@example.com:8443/", True, "https"),
        ("http://127.0.0.1:8080/x", True, "http"),
        ("http://localhost/x", True, "http"),
    ],
)
def test_a_webhook_is_https_or_on_this_machine(url: str, local: bool, protocol: str) -> None:
    assert webhook(url, local=local) == protocol


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1/x", False),
        ("http://example.com/x", True),
        ("http://127.0.0.1.example.com/x", True),
        ("http://127.0.0.1@example.com/x", True),
        ("ftp://example.com/x", True),
        ("file:///etc/passwd", True),
        ("https:///x", True),
        ("https://example.com/a b", True),
        ("https://example.com:port/", True),
        ("https://example.com/\u200b", True),
        ("example.com", True),
    ],
)
def test_any_other_webhook_is_refused(url: str, local: bool) -> None:
    with pytest.raises(UsageError):
        webhook(url, local=local)


def test_a_webhook_is_shown_without_its_password_and_query() -> None:
    url = "https://me:secret@example.com/hook?key=1"
    one = Subscriber("alerts", "https", url, confirmed=True, arn="a", policy="{}")
    assert one.address == "https://example.com/hook?..."
    assert "secret" not in json.dumps(one.document())
    assert "key=1" not in json.dumps(one.document())


def test_one_endpoint_is_known_in_every_spelling_of_sns() -> None:
    assert comparable("email", "Me@Example.com") == comparable("email", "me@example.com")
    starred = "https://me:****@example.com/x"  # as SNS lists it
    assert comparable("https", "https://me:p@example.com/x") == comparable("https", starred)
    assert comparable("https", "https://example.com/a:b@c") == "https://example.com/a:b@c"
    assert asked_tag("email", "Me@Example.com") == asked_tag("email", "me@example.com")
    assert asked_tag("email", "me@example.com") != asked_tag("sms", "me@example.com")


def test_the_statement_of_each_topic_has_a_name_of_its_own() -> None:
    queue = "arn:aws:sqs:us-east-2:123456789012:q"
    one, other = sender(TOPIC, queue), sender(f"{TOPIC}-dev", queue)
    assert one["Condition"] == {"ArnEquals": {"aws:SourceArn": TOPIC}}
    assert one["Sid"].isalnum()
    assert one["Sid"] != other["Sid"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_alert_has_every_real_form_and_says_first_that_it_is_a_test(kind: str) -> None:
    alert = sample("AAPL", kind, "some-rule", NOW)
    assert alert.attributes == {"symbol": "AAPL", "signal": kind, "rule": "some-rule"}
    forms = json.loads(marked(alert))
    assert forms["default"].startswith(f"{TEST_MARK}AAPL ")
    assert forms["default"].splitlines()[1] == TEST_NOTE
    assert forms["sms"].startswith(TEST_MARK)
    assert len(forms["sms"]) <= 140
    for protocol in ("http", "https", "sqs", "lambda"):
        document = json.loads(forms[protocol])
        assert (document["symbol"], document["kind"], document["test"]) == ("AAPL", kind, True)
        assert document["subject"] == "TEST: Stock Alert: AAPL"
        assert document["text"] == forms["default"]


@pytest.mark.parametrize(("above", "words"), [(True, "is above 300, at 303"), (False, "is below")])
def test_a_test_of_a_level_is_beyond_the_level_of_the_rule(above: bool, words: str) -> None:
    rule = PriceRule(level=300_000_000, above=above)
    alert = beyond(sample("AAPL", "price", rule.name, NOW), rule)
    assert words in marked(alert)
    assert alert.signal.level == rule.level
