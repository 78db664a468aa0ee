"""`stockpipe alerts history`: what fired, narrowed as asked, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from embedded import cleaned
from stockpipe_cli import Cli

from stockpipe.domain.alerts import Alert
from stockpipe.infra.apply import apply
from stockpipe.infra.plan import plan_provision
from stockpipe.local import daemon
from stockpipe.operate.alerts import sample

pytest.importorskip("ministack")

DAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Of a stack, the table of alerts."""
    with cleaned(tmp_path_factory.mktemp("history")) as home:
        daemon.ensure_running(home)
        found = Cli(home)
        table = found.aws.names.alerts_table
        needed = [one for one in found.resources() if one.name == table]
        apply(plan_provision(needed), lambda step: None)
        yield found


@pytest.fixture
def kept(cli: Cli) -> Iterator[list[Alert]]:
    """One alert of each kind, a minute apart; the move is told once a day, by its day."""
    dynamodb, table = cli.aws.client("dynamodb"), cli.aws.names.alerts_table
    alerts = [
        sample("AAPL", kind, f"rule-{kind}", f"{DAY}T15:0{minute}:00.000Z")
        for minute, kind in enumerate(("golden", "death", "move", "spike", "price"))
    ]
    for alert in alerts:
        facts = {name: {"S": str(value)} for name, value in alert.facts().items()}
        facts["status"] = {"S": "muted" if alert.signal.kind == "death" else "sent"}
        key = {"symbol": {"S": alert.symbol}, "id": {"S": alert.id}}
        dynamodb.put_item(TableName=table, Item={**facts, **key})
    yield alerts
    for alert in alerts:
        key = {"symbol": {"S": alert.symbol}, "id": {"S": alert.id}}
        dynamodb.delete_item(TableName=table, Key=key)


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ((), ["golden", "death", "move", "spike", "price"]),
        (("--kind", "golden", "--kind", "move"), ["golden", "move"]),
        (("--status", "muted"), ["death"]),
        (("--status", "sent", "-n", "2"), ["spike", "price"]),
        (("AAPL", "--since", "366d", "-n", "9"), ["golden", "death", "move", "spike", "price"]),
        (("--symbol", "MSFT"), []),
    ],
)
def test_the_history_is_narrowed_by_kind_status_and_number(
    cli: Cli, kept: list[Alert], arguments: tuple[str, ...], kinds: list[str]
) -> None:
    found = cli("alerts", "history", *arguments, "--json").lines
    assert [one["kind"] for one in found] == kinds
    for one in found:
        assert list(one)[:7] == [
            "symbol", "timestamp", "rule", "kind", "price", "sma_fast", "sma_slow",
        ]  # fmt: skip
        assert {"status", "sent_at"} <= set(one)


def test_a_move_of_the_same_day_is_within_a_period_that_began_that_day(
    cli: Cli, kept: list[Alert]
) -> None:
    """Its id is the day alone, which sorts before any time of it."""
    from stockpipe.operate.alerts import history

    found = history(
        cli.aws.client("dynamodb"),
        cli.aws.names.alerts_table,
        symbols=["AAPL"],
        since=f"{DAY}T15:02:00.000Z",
    )
    assert [one["kind"] for one in found] == ["move", "spike", "price"]


def test_a_person_sees_rule_and_change(cli: Cli, kept: list[Alert]) -> None:
    head, *rows = cli("alerts", "history").out.splitlines()
    assert head.split()[:6] == ["timestamp", "symbol", "rule", "kind", "price", "change"]
    [move] = [row for row in rows if " move " in row]
    assert "rule-move" in move
    assert "+6.00 %" in move
