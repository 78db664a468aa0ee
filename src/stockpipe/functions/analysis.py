"""What changed rows mean: windows judged again, signals found exactly, each alerted once.

Every window that a changed row belongs to is judged from the stored readings around it. Ids of
alerts derive from the data, so judging again changes nothing; an alert that a late row makes wrong
is marked superseded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import moment_text
from stockpipe.domain.rules import Rule
from stockpipe.functions.alert_table import Standing
from stockpipe.functions.alerts import KNOWN, LEASED, AlertBook
from stockpipe.functions.batch import lowest
from stockpipe.functions.faults import error_code, is_transient
from stockpipe.functions.readings import Cluster, Readings, TooFarBack

SETTLE_S = 900
"""How long a row waits for its predecessor: long enough for a throttled table, well below
``notify_max_age``. Past that the predecessor was deleted, and nobody will bring it back."""

OUT_OF_TIME = "out of time"
SLICE_ROWS = 5000
"""So many rows are judged at a time where they are looked for: a day may hold far more."""

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
    """Why, by symbol and rule: no delivery of the same rows would change that."""

    unread: dict[str, str] = field(default_factory=dict)
    """Why, by symbol: of a look back, and the next one may get there."""

    @property
    def failed(self) -> str | None:
        return lowest(self.handed_back)


class HandBack(Exception):
    """A symbol cannot be judged yet; the text says why."""


@dataclass(frozen=True, slots=True)
class _Task:
    """Rows of one symbol to judge. ``without_event``: nothing told of them, they were looked for,
    while another invocation may be judging them too."""

    symbol: str
    rows: Sequence[Change]
    outcome: Outcome
    left: Callable[[], float]
    without_event: bool = False

    def check_time(self) -> None:
        if self.left() <= 0:
            raise HandBack(OUT_OF_TIME)

    def hand_back(self, why: str) -> None:
        first = lowest(row.seq for row in self.rows)
        if first:
            self.outcome.handed_back[first] = f"{self.symbol}: {why}"


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
        self._next: str | None = None
        """The symbol that the next look back begins with."""

    def run(self, batch: Sequence[Change], left: Callable[[], float]) -> Outcome:
        """Judge one batch; ``left()`` tells the seconds that remain for it."""
        outcome = Outcome(records=len(batch))
        by_symbol: dict[str, list[Change]] = {}
        for change in batch:
            by_symbol.setdefault(change.symbol, []).append(change)
        for symbol, rows in by_symbol.items():
            self._judge(_Task(symbol, rows, outcome, left), self._covering(symbol))
        return outcome

    def look_back(
        self, symbols: Sequence[str], look_back_s: float, left: Callable[[], float]
    ) -> Outcome:
        """Judge what is stored of the last ``look_back_s`` seconds as if it had just arrived.

        That finds what no event told of: of a mapping that was disabled, or a record past its age.
        It supersedes nothing: where old rows have expired, what they once made true looks wrong.
        A symbol that cannot be read now, or for which no time is left, is ``unread``; where time
        ran out the next look begins.
        """
        outcome = Outcome()
        now = self._clock.now()
        since = moment_text(now - timedelta(seconds=look_back_s))
        first = symbols.index(self._next) if self._next in symbols else 0
        self._next = None
        for symbol in (*symbols[first:], *symbols[:first]):
            if left() <= 0:
                self._next = self._next or symbol
                outcome.unread[symbol] = OUT_OF_TIME
                continue
            try:
                timestamps = self._readings.timestamps_since(symbol, since)
            except Exception as error:
                if not is_transient(error):
                    raise
                outcome.unread[symbol] = error_code(error)
                continue
            for start in range(0, len(timestamps), SLICE_ROWS):
                rows = [
                    Change(str(outcome.records + at), symbol, one, now.timestamp(), modified=False)
                    for at, one in enumerate(timestamps[start : start + SLICE_ROWS])
                ]
                outcome.records += len(rows)
                task = _Task(symbol, rows, outcome, left, without_event=True)
                self._judge(task, self._covering(symbol))
        return outcome

    def _covering(self, symbol: str) -> list[Rule]:
        return [rule for rule in self._rules if rule.covers(symbol)]

    def _judge(self, task: _Task, rules: Sequence[Rule]) -> None:
        """By all rules at once; where one of them would need too many rows, by each alone."""
        try:
            self._judge_by(task, rules)
        except HandBack as why:
            task.hand_back(str(why))
        except TooFarBack as why:
            if len(rules) == 1:
                task.outcome.unjudged[f"{task.symbol} {rules[0].name}"] = str(why)
            else:
                for rule in rules:
                    self._judge(task, [rule])
        except Exception as error:
            if not is_transient(error):
                raise
            task.hand_back(error_code(error))

    def _judge_by(self, task: _Task, rules: Sequence[Rule]) -> None:
        if not rules:
            return
        rows = task.rows
        timestamps = [row.timestamp for row in rows]
        ordinary = timestamps == sorted(set(timestamps)) and not any(r.modified for r in rows)
        for found in self._readings.clusters(task.symbol, timestamps, rules):
            task.check_time()
            cluster = self._visible(task.symbol, found, rows)
            if not cluster.stored:
                continue
            # Only a row that came late, out of order or changed can have made an alert wrong.
            ordinary_here = ordinary and len(cluster.changed) == sum(
                one.reading.timestamp >= cluster.changed[0] for one in cluster.stored
            )
            for rule in rules:
                found_here = cluster.signals(rule)
                alerts = _each_once(Alert(task.symbol, rule.name, one) for one in found_here)
                if task.without_event:
                    told = self._book.standing(task.symbol, rule.name, *cluster.judged(rule))
                    known = {one.id for one in told}
                    alerts = [alert for alert in alerts if alert.id not in known]
                elif not ordinary_here:
                    self._look_again(task, rule, cluster, {alert.id: alert for alert in alerts})
                self._settle(task, rule, alerts)

    def _visible(self, symbol: str, found: Cluster, rows: Sequence[Change]) -> Cluster:
        """The readings up to a gap that may still close; raises HandBack for a row behind it.

        BatchWriteItem has no order: a crossing computed across a gap may never have been.
        """
        written_at = {row.timestamp: row.written_at for row in rows}
        now = self._clock.now().timestamp()
        closed: set[str] = set()
        if len(self._gaps) > MAX_GAPS:
            self._gaps.clear()
        while gap := found.gap(closed, now):
            first_seen = self._gaps.setdefault((symbol, gap.missing), now)
            if now - min(first_seen, written_at.get(gap.named_by, first_seen)) >= SETTLE_S:
                closed.add(gap.missing)
                continue
            whole = found.before(gap)
            if not whole.holds_all_changed():
                raise HandBack(f"{gap.missing} is not visible yet")
            return whole
        return found

    def _settle(self, task: _Task, rule: Rule, alerts: Sequence[Alert]) -> None:
        outcome = task.outcome
        for alert in alerts:
            task.check_time()
            settled = self._book.settle(
                alert,
                rule.cooldown_s,
                partial(self._still_true, rule, alert) if task.without_event else None,
            )
            if settled == LEASED:
                raise HandBack(f"{alert.id} is being published by another invocation")
            outcome.settled[settled] = outcome.settled.get(settled, 0) + 1
            if settled != KNOWN:
                outcome.alerts.append(f"{task.symbol} {alert.id} {alert.signal.kind} {settled}")

    def _still_true(self, rule: Rule, alert: Alert) -> bool:
        found = self._alerts_at(alert.symbol, rule, [alert.signal.timestamp])
        return any((one.id, one.signal.kind) == (alert.id, alert.signal.kind) for one in found)

    def _look_again(
        self, task: _Task, rule: Rule, cluster: Cluster, true: dict[str, Alert]
    ) -> None:
        """Supersede what was alerted among the judged readings and is not ``true`` any more.

        An alert of a day may go on being true by another reading than the one it was made of. What
        turned into another kind is turned around when that is settled.
        """
        for told in self._book.standing(task.symbol, rule.name, *cluster.judged(rule)):
            now = true.get(told.id) or self._same_day(rule, told)
            if now is None:
                stands = self._book.supersede(told)
                task.outcome.superseded.append(told.id)
            elif now.signal.timestamp != told.timestamp:
                stands = self._book.correct(now)
            else:
                continue
            if not stands:
                raise HandBack(f"{told.id} was changed by another invocation")

    def _same_day(self, rule: Rule, told: Standing) -> Alert | None:
        """What was told once for a day, as another reading of it makes it; None where none does."""
        if told.day is None:
            return None
        timestamps = self._readings.timestamps_of(told.symbol, told.day)
        found = self._alerts_at(told.symbol, rule, timestamps)
        return next((one for one in found if one.id == told.id), None)

    def _alerts_at(self, symbol: str, rule: Rule, timestamps: Iterable[str]) -> Iterator[Alert]:
        """What the rule tells of these readings, and of what depends on them, in time order."""
        for cluster in self._readings.clusters(symbol, timestamps, [rule]):
            for signal in cluster.signals(rule):
                yield Alert(symbol, rule.name, signal)


def _each_once(found: Iterable[Alert]) -> list[Alert]:
    """Of one occasion the first counts: a move is told once a day."""
    return list({alert.id: alert for alert in reversed(list(found))}.values())[::-1]
