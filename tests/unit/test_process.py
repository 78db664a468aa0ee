"""ProcessStockData: order of effects, poison, retries; nothing lost and nothing doubled."""

from __future__ import annotations

import base64
import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import THROTTLED, Bucket, Table, refused

from stockpipe.domain.clock import SystemClock
from stockpipe.functions.archive import Archive
from stockpipe.functions.batch import Arrived, kinesis_records
from stockpipe.functions.process import Outcome, Processor
from stockpipe.functions.table import QuoteTable

ARRIVED = datetime(2022, 3, 28, 20, 0, tzinfo=UTC)
START = datetime(2022, 3, 14, 13, 30, tzinfo=UTC)


class Instant(SystemClock):
    """Waits take no time."""

    def sleep(self, seconds: float) -> None:
        pass


class Pipeline:
    def __init__(self) -> None:
        self.bucket, self.table = Bucket(), Table("symbol", "timestamp")
        self.seconds_left = 50.0
        archive: Any = Archive(self.bucket, "bucket", "123456789012")  # type: ignore[arg-type]
        table = QuoteTable(
            self.table,  # type: ignore[arg-type]
            "table",
            anomaly_micro=5_000_000,
            ttl_s=None,
            clock=Instant(),
        )
        self._processor = Processor(archive, table, anomaly_micro=5_000_000)

    def run(self, records: list[Arrived]) -> Outcome:
        return self._processor.run(records, lambda: self.seconds_left)

    def archived(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for body in self.bucket.under("raw-data/").values()
            for line in body.splitlines()
        ]

    def quarantined(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bucket.under("quarantine/").values()]


def arrived(seq: int, payload: bytes) -> Arrived:
    encoded = base64.b64encode(payload).decode()
    return Arrived(str(seq), "shardId-000000000000", payload, encoded, ARRIVED)


def quote(seq: int, *, symbol: str = "AAPL", minute: int | None = None, **changes: Any) -> Arrived:
    moment = START + timedelta(minutes=seq if minute is None else minute)
    fields = {
        "symbol": symbol, "open": 10, "high": 12, "low": 9, "price": 11, "previous_close": 10,
        "volume": 100, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}", **changes,
    }  # fmt: skip
    return arrived(seq, json.dumps(fields).encode())


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


def test_a_batch_is_archived_and_stored_with_what_the_processor_computes(
    pipeline: Pipeline,
) -> None:
    outcome = pipeline.run([quote(1), quote(2, price=10.4)])
    assert (outcome.stored, outcome.failed, outcome.anomalies) == (2, None, 1)
    first = pipeline.table.items["AAPL", "2022-03-14T13:31:00.000Z"]
    assert first["change"] == {"N": "1"}
    assert first["change_percent"] == {"N": "10"}
    assert first["moving_average"] == {"N": "10.5"}
    assert first["anomaly"] == {"S": "Yes"}
    assert "after" not in first
    second = pipeline.table.items["AAPL", "2022-03-14T13:32:00.000Z"]
    assert second["after"] == {"S": "2022-03-14T13:31:00.000Z"}
    assert second["anomaly"] == {"S": "No"}
    ((key, body),) = pipeline.bucket.under("raw-data/").items()
    assert key.startswith("raw-data/day=2022-03-14/2022-03-14T13-31-00.000Z-")
    assert [json.loads(line)["seq"] for line in body.splitlines()] == ["1".zfill(64), "2".zfill(64)]


def test_without_a_previous_close_there_is_no_change_and_no_anomaly(pipeline: Pipeline) -> None:
    pipeline.run([quote(1, previous_close=None)])
    (item,) = pipeline.table.items.values()
    assert item["anomaly"] == {"S": "No"}
    assert not {"change", "change_percent", "previous_close"} & set(item)


def test_poison_is_quarantined_with_its_bytes_and_takes_no_neighbour_along(
    pipeline: Pipeline,
) -> None:
    poison = [b"\x00\xff", b"not json", json.dumps({"symbol": "AAPL"}).encode()]
    batch = [quote(1), *(arrived(seq, data) for seq, data in enumerate(poison, 2)), quote(5)]
    batch.append(Arrived("6", "shardId-000000000000", None, "%%%", ARRIVED))
    outcome = pipeline.run(batch)
    assert (outcome.stored, len(outcome.refused), outcome.failed) == (2, 4, None)
    kept = {one["sequence_number"]: one for one in pipeline.quarantined()}
    assert [base64.b64decode(kept[str(seq)]["payload_base64"]) for seq in (2, 3, 4)] == poison
    assert kept["3"]["payload"] == "not json"
    assert "record: is not JSON" in kept["3"]["reason"]
    assert kept["6"]["payload_base64"] == "%%%"


def test_the_last_of_one_key_wins_also_within_a_batch(pipeline: Pipeline) -> None:
    outcome = pipeline.run([quote(1, minute=0, price=1), quote(2, minute=0, price=2)])
    (item,) = pipeline.table.items.values()
    assert item["price"] == {"N": "2"}
    assert (outcome.stored, outcome.replaced) == (1, 1)
    assert len(pipeline.archived()) == 2


def test_running_a_batch_twice_changes_nothing(pipeline: Pipeline) -> None:
    batch = [quote(seq) for seq in range(100)]
    pipeline.run(batch)
    items, objects, writes = dict(pipeline.table.items), dict(pipeline.bucket.objects), 100
    pipeline.run(batch)
    assert pipeline.table.items == items
    assert pipeline.bucket.objects == objects
    assert pipeline.table.writes == writes


def test_calls_are_few(pipeline: Pipeline) -> None:
    batch = [quote(seq, symbol=f"S{seq % 10}") for seq in range(100)]
    pipeline.run(batch)
    assert pipeline.bucket.calls == 1
    assert len(pipeline.table.calls) == math.ceil(100 / 25)


def test_a_failing_archive_keeps_the_table_a_subset_of_it(pipeline: Pipeline) -> None:
    day = timedelta(days=1) // timedelta(minutes=1)
    batch = [quote(1), quote(2, minute=day), quote(3), quote(4, minute=day + 1)]
    pipeline.bucket.fault = lambda _, request: (
        refused("SlowDown", status=503) if "day=2022-03-15" in request["Key"] else None
    )
    outcome = pipeline.run(batch)
    assert outcome.failed == "2"
    assert [key[1] for key in pipeline.table.items] == ["2022-03-14T13:31:00.000Z"]
    pipeline.bucket.fault = lambda *_: None
    assert pipeline.run(batch[1:]).failed is None
    assert len(pipeline.table.items) == 4


def test_a_failing_quarantine_stops_before_the_poison(pipeline: Pipeline) -> None:
    pipeline.bucket.fault = lambda _, request: (
        refused("InternalError", status=500) if request["Key"].startswith("quarantine/") else None
    )
    outcome = pipeline.run([quote(1), arrived(2, b"{}"), quote(3)])
    assert outcome.failed == "2"
    assert len(pipeline.table.items) == 1


def test_throttled_and_unprocessed_writes_are_tried_again(pipeline: Pipeline) -> None:
    rng = random.Random(7)
    pipeline.table.fault = lambda *_: refused(THROTTLED) if rng.random() < 0.4 else None
    pipeline.table.unprocessed = lambda puts: [put for put in puts if rng.random() < 0.5]
    outcome = pipeline.run([quote(seq) for seq in range(200)])
    assert (outcome.stored, outcome.failed) == (200, None)
    assert len(pipeline.table.items) == 200


def test_out_of_time_hands_back_from_the_first_unfinished(pipeline: Pipeline) -> None:
    def run_out(item: dict[str, Any]) -> None:
        if len(pipeline.table.items) == 50:
            pipeline.seconds_left = -1

    pipeline.table.on_write = run_out
    outcome = pipeline.run([quote(seq) for seq in range(100)])
    assert (outcome.failed, outcome.stored) == ("50", 50)


def test_what_dynamodb_refuses_is_found_singly_and_quarantined(pipeline: Pipeline) -> None:
    def fault(_: str, request: dict[str, Any]) -> Exception | None:
        (puts,) = request["RequestItems"].values()
        bad = any(put["PutRequest"]["Item"]["volume"]["N"] == "13" for put in puts)
        return refused("ValidationException") if bad else None

    pipeline.table.fault = fault
    outcome = pipeline.run([quote(1), quote(2, volume=13), quote(3)])
    assert (outcome.stored, outcome.failed) == (2, None)
    (kept,) = pipeline.quarantined()
    assert kept["sequence_number"] == "2"
    assert "DynamoDB refuses" in kept["reason"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_a_broken_environment_is_an_error_and_not_poison(pipeline: Pipeline, code: str) -> None:
    pipeline.table.fault = lambda *_: refused(code)
    with pytest.raises(Exception, match=code):
        pipeline.run([quote(1)])
    assert pipeline.quarantined() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 120))
def test_whatever_fails_redelivery_ends_with_everything_accounted_for(
    rng: random.Random, size: int
) -> None:
    pipeline = Pipeline()
    batch = []
    for seq in range(size):
        if rng.random() < 0.1:
            batch.append(arrived(seq, b"poison %d" % seq))
        else:
            symbol, minute = rng.choice(["AAPL", "TSLA"]), rng.randrange(size * 2)
            batch.append(quote(seq, symbol=symbol, minute=minute, price=seq + 1))

    def flaky(*_: Any) -> Exception | None:
        return refused("ThrottlingException") if rng.random() < 0.3 else None

    pipeline.bucket.fault = pipeline.table.fault = flaky
    pipeline.table.unprocessed = lambda puts: [put for put in puts if rng.random() < 0.3]
    rest = batch
    for _ in range(1000):
        failed = pipeline.run(rest).failed
        if failed is None:
            break
        rest = [record for record in rest if int(record.seq) >= int(failed)]
    else:
        pytest.fail("the batch never came to an end")
    expected: dict[tuple[str, str], str] = {}
    for record in batch:
        if record.data and record.data.startswith(b"{"):
            fields = json.loads(record.data)
            stamp = fields["timestamp"].replace("Z", ".000Z")
            expected[fields["symbol"], stamp] = str(fields["price"])
    stored = {key: item["price"]["N"] for key, item in pipeline.table.items.items()}
    assert stored == expected
    seqs = {int(line["seq"]) for line in pipeline.archived()}
    poison = {int(one["sequence_number"]) for one in pipeline.quarantined()}
    assert seqs | poison == {int(record.seq) for record in batch}
    assert not seqs & poison


def test_another_event_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no Kinesis event"):
        kinesis_records({"hello": "world"})
