"""What changed rows mean: windows judged again, signals found exactly, each alerted once.

Every window that a changed row belongs to is judged from the stored readings around it. Ids of
alerts derive from the data, so judging again changes nothing; an alert that a late row makes wrong
is marked superseded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import moment_text
from stockpipe.domain.rules import Rule
from stockpipe.functions.alerts import KNOWN, LEASED, AlertBook, Standing
from stockpipe.functions.batch import lowest
from stockpipe.functions.faults import error_code, is_transient
from stockpipe.functions.readings import Cluster, Readings, TooFarBack

SETTLE_S = 900
"""How long a row waits for its predecessor: long enough for a throttled table, well below
``notify_max_age``. Past that the predecessor was deleted, and nobody will bring it back."""

MAX_GAPS = 10_000
"""How many are remembered; forgetting one only means waiting for it again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the table that was written. ``written_at`` in epoch seconds."""

    seq: str
    symbol: str
    timestamp: str
    written_at: float
    modified: bool


@dataclass
class Outcome:
    """What became of one batch."""

    records: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    handed_back: dict[str, str] = field(default_factory=dict)
    """Why, by sequence number."""

    unjudged: dict[str, str] = field(default_factory=dict)
    """Why, by symbol: no delivery of the same rows would change that."""

    @property
    def failed(self) -> str | None:
        return lowest(self.handed_back)


class HandBack(Exception):
    """A symbol cannot be judged yet; the text says why."""


class TrendAnalysis:
    """Judges batches of changes by rules."""

    def __init__(
        self,
        readings: Readings,
        book: AlertBook,
        rules: Sequence[Rule],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._readings, self._book, self._rules, self._clock = readings, book, rules, clock
        self._gaps: dict[tuple[str, str], float] = {}
        """When this execution environment first missed a row, in epoch seconds."""

    def run(self, batch: Sequence[Change], left: Callable[[], float]) -> Outcome:
        """Judge one batch; ``left()`` tells the seconds that remain for it."""
        outcome = Outcome(records=len(batch))
        by_symbol: dict[str, list[Change]] = {}
        for change in batch:
            by_symbol.setdefault(change.symbol, []).append(change)
        for symbol, rows in by_symbol.items():
            try:
                self._judge(symbol, rows, outcome, left)
            except HandBack as why:
                self._hand_back(outcome, rows, str(why))
            except TooFarBack as why:
                outcome.unjudged[symbol] = str(why)
            except Exception as error:
                if not is_transient(error):
                    raise
                self._hand_back(outcome, rows, error_code(error))
        return outcome

    def look_back(
        self, symbols: Iterable[str], look_back_s: float, left: Callable[[], float]
    ) -> Outcome:
        """Judge what is stored of the last ``look_back_s`` seconds as if it had just arrived.

        That finds what no event told of: of a mapping that was disabled, or a record past its age.
        It supersedes nothing: where old rows have expired, what they once made true looks wrong.
        A symbol that cannot be read now is ``unjudged``; the next look may find it.
        """
        now = self._clock.now()
        since = moment_text(now - timedelta(seconds=look_back_s))
        rows: list[tuple[str, str]] = []
        unread: dict[str, str] = {}
        for symbol in symbols:
            try:
                rows += [(symbol, one) for one in self._readings.timestamps_since(symbol, since)]
            except Exception as error:
                if not is_transient(error):
                    raise
                unread[symbol] = error_code(error)
        outcome = self.run(
            [
                Change(str(number), symbol, timestamp, now.timestamp(), modified=False)
                for number, (symbol, timestamp) in enumerate(rows)
            ],
            left,
        )
        outcome.unjudged |= unread
        return outcome

    @staticmethod
    def _hand_back(outcome: Outcome, rows: Sequence[Change], why: str) -> None:
        first = lowest(row.seq for row in rows)
        if first:
            outcome.handed_back[first] = f"{rows[0].symbol}: {why}"

    def _judge(
        self, symbol: str, rows: Sequence[Change], outcome: Outcome, left: Callable[[], float]
    ) -> None:
        rules = [rule for rule in self._rules if rule.covers(symbol)]
        if not rules:
            return
        timestamps = [row.timestamp for row in rows]
        ordinary = timestamps == sorted(set(timestamps)) and not any(r.modified for r in rows)
        for found in self._readings.clusters(symbol, timestamps, rules):
            _check_time(left)
            cluster = self._visible(symbol, found, rows)
            if not cluster.stored:
                continue
            # Only a row that came late, out of order or changed can have made an alert wrong.
            ordinary_here = ordinary and len(cluster.changed) == sum(
                one.reading.timestamp >= cluster.changed[0] for one in cluster.stored
            )
            for rule in rules:
                self._alert(symbol, rule, cluster, outcome, left, look_back=not ordinary_here)

    def _visible(self, symbol: str, found: Cluster, rows: Sequence[Change]) -> Cluster:
        """The readings up to a gap that may still close; raises HandBack for a row behind it.

        BatchWriteItem has no order: a crossing computed across a gap may never have been.
        """
        written_at = {row.timestamp: row.written_at for row in rows}
        now = self._clock.now().timestamp()
        closed: set[str] = set()
        if len(self._gaps) > MAX_GAPS:
            self._gaps.clear()
        while gap := found.gap(closed):
            first_seen = self._gaps.setdefault((symbol, gap.missing), now)
            if now - min(first_seen, written_at.get(gap.named_by, first_seen)) >= SETTLE_S:
                closed.add(gap.missing)
                continue
            whole = found.before(gap)
            if not whole.holds_all_changed():
                raise HandBack(f"{gap.missing} is not visible yet")
            return whole
        return found

    def _alert(
        self,
        symbol: str,
        rule: Rule,
        cluster: Cluster,
        outcome: Outcome,
        left: Callable[[], float],
        *,
        look_back: bool,
    ) -> None:
        found = [Alert(symbol, rule.name, signal) for signal in cluster.signals(rule)]
        # Of one occasion the first counts: a move is told once a day.
        alerts = list({alert.id: alert for alert in reversed(found)}.values())[::-1]
        if look_back:
            self._look_back(symbol, rule, cluster, {alert.id: alert for alert in alerts}, outcome)
        for alert in alerts:
            _check_time(left)
            settled = self._book.settle(alert, rule.cooldown_s)
            if settled == LEASED:
                raise HandBack(f"{alert.id} is being published by another invocation")
            outcome.settled[settled] = outcome.settled.get(settled, 0) + 1
            if settled != KNOWN:
                outcome.alerts.append(f"{symbol} {alert.id} {alert.signal.kind} {settled}")

    def _look_back(
        self, symbol: str, rule: Rule, cluster: Cluster, true: dict[str, Alert], outcome: Outcome
    ) -> None:
        """Supersede what was alerted among the judged readings and is not ``true`` any more.

        An alert of a day may go on being true by another reading than the one it was made of.
        """
        for told in self._book.standing(symbol, rule.name, *cluster.judged(rule)):
            now = true.get(told.id) or self._same_day(symbol, rule, told)
            if now is None:
                self._book.supersede(symbol, told.id)
                outcome.superseded.append(told.id)
            elif now.signal.timestamp != told.timestamp:
                self._book.correct(now)

    def _same_day(self, symbol: str, rule: Rule, told: Standing) -> Alert | None:
        """What was told once for a day, as another reading of it makes it; None where none does."""
        if told.day is None:
            return None
        found = (
            Alert(symbol, rule.name, signal)
            for cluster in self._readings.clusters(
                symbol, self._readings.timestamps_of(symbol, told.day), [rule]
            )
            for signal in cluster.signals(rule)
        )
        return next((one for one in found if one.id == told.id), None)


def _check_time(left: Callable[[], float]) -> None:
    if left() <= 0:
        raise HandBack("out of time")
