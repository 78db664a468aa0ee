"""``stockpipe stream`` on a terminal: what a person sees, on a screen that is played here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from stockpipe_cli import Cli
from terminal import ROWS, Shown, on_terminal

from stockpipe.local import daemon
from yahoo_proxy import BATCH, CHART, Answer, YahooProxy, batch, chart, entry

pytest.importorskip("ministack")

COLOUR = re.compile(r"\x1b\[[\d;]*(3\d|4\d|9\d)[\d;]*m")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with cleaned(tmp_path_factory.mktemp("terminal")) as home:
        daemon.ensure_running(home)
        found = Cli(home)
        found.make()
        yield found


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    """New quotes at every look, but for the closed markets of SHUT and OVER.

    The first test has UP, DOWN and SHUT for itself: it counts what is stored of them.
    """
    with YahooProxy(tmp_path) as proxy:
        proxy.answer(BATCH, *[Answer(watched(look)) for look in range(3)])
        for closed in ("SHUT", "OVER"):
            proxy.answer(CHART + closed, Answer(chart(closed)))
        yield proxy
    assert not proxy.refused


def watched(look: int) -> Any:
    told = {"marketState": "REGULAR", "regularMarketTime": 1761753600 + look}
    return batch(
        *(entry(symbol, regularMarketPrice=270.5 + look, **told) for symbol in ("UP", "RISES")),
        *(entry(symbol, regularMarketPrice=268 - look, **told) for symbol in ("DOWN", "FALLS")),
        *(entry(symbol) for symbol in ("SHUT", "OVER")),
    )


def show(
    cli: Cli,
    *arguments: str,
    yahoo: YahooProxy | None = None,
    columns: int = 120,
    out: Path | None = None,
    **environment: str,
) -> Shown:
    """Run ``stream`` on a terminal."""
    shared = {**cli.environment(), "TERM": "xterm-256color"}
    return on_terminal(
        cli.command("stream", *arguments),
        {**shared, **(yahoo.environment() if yahoo else {}), **environment},
        cli.home,
        columns=columns,
        out=out,
    )


def test_a_line_per_symbol_is_redrawn_in_place(cli: Cli, yahoo: YahooProxy) -> None:
    call = ("UP", "DOWN", "SHUT", "--interval", "500ms", "--count", "3")
    shown = show(cli, *call, yahoo=yahoo)
    head = shown.line("symbol").split()
    assert head == ["symbol", "price", "change", "age", "market", "sent", "lag", "averages"]
    up, down, shut = (shown.line(symbol) for symbol in ("UP", "DOWN", "SHUT"))
    assert up.split()[:4] == ["UP", "272.5", "+1.30", "%"]
    assert down.split()[:4] == ["DOWN", "266", "-1.12", "%"]
    assert re.search(r"STALE +3 +\d+ ms +3/20 readings$", up)
    assert re.search(r"CLOSED opens \w{3} \d\d:\d\d UTC +1 +\d+ ms +1/20 readings$", shut)
    assert shown.line("sent 7   unchanged 2   running")
    assert shown.line("Sent 7 quotes in")
    assert shown.raw.count("UP ") >= 3
    assert COLOUR.search(shown.raw)


def test_more_symbols_than_lines_are_counted(cli: Cli, yahoo: YahooProxy) -> None:
    symbols = [f"ROW{number:02d}" for number in range(60)]
    yahoo.answer(
        BATCH, Answer(batch(*(entry(symbol, marketState="REGULAR") for symbol in symbols)))
    )
    shown = show(cli, *symbols, "--count", "1", yahoo=yahoo)
    rows = [line for line in shown.lines if line.startswith("ROW")]
    assert 10 < len(rows) < ROWS
    assert shown.line(f"and {60 - len(rows)} more   sent 60")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_shows_fewer_columns_and_each_of_them_whole(
    cli: Cli, yahoo: YahooProxy, columns: int
) -> None:
    call = ("RISES", "OVER", "--count", "1")
    shown = show(cli, *call, columns=columns, yahoo=yahoo)
    assert "…" not in shown.raw
    assert shown.line("RISES").split()[:4] == ["RISES", "270.5", "+0.56", "%"]
    assert shown.line("symbol").split()[:3] == ["symbol", "price", "change"]
    assert ("market" in shown.line("symbol")) is (columns == 80)


def test_without_colour_it_is_redrawn_all_the_same(cli: Cli, yahoo: YahooProxy) -> None:
    shown = show(cli, "RISES", "FALLS", "--count", "1", NO_COLOR="1", yahoo=yahoo)
    assert shown.line("FALLS").split()[1] == "268"
    assert not COLOUR.search(shown.raw)


def test_a_terminal_that_cannot_redraw_gets_lines(cli: Cli, yahoo: YahooProxy) -> None:
    shown = show(cli, "RISES", "--count", "1", TERM="dumb", yahoo=yahoo)
    assert re.search(r"^\d\d:\d\d:\d\d RISES 270.5 \(\+0.56 %\)", shown.raw, re.MULTILINE)
    assert "\x1b[" not in shown.raw


def test_a_replay_has_a_bar_that_goes_when_it_is_done(cli: Cli) -> None:
    shown = show(cli, "IBM", "--source", "replay:sample", "--speed", "max")
    assert re.search(r"━.*252/252", shown.raw)
    assert "━" not in "".join(shown.lines)
    assert shown.line("Sent 252 quotes in")


def test_data_in_a_file_stay_there_while_the_terminal_has_the_bar(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sent.txt"
    shown = show(cli, "MSFT", "--source", "replay:sample", "--speed", "max", "-v", out=file)
    assert len(file.read_text().splitlines()) == 252
    assert "shardId" not in shown.raw
    assert "252/252" in shown.raw


def test_a_dry_run_is_the_records_and_nothing_that_moves(cli: Cli) -> None:
    call = ("GOOG", "--source", "replay:sample", "--speed", "max", "--count", "3", "--dry-run")
    shown = show(cli, *call, columns=400)
    assert len([line for line in shown.lines if line.startswith('{"symbol":"GOOG"')]) == 3
    assert "━" not in shown.raw
