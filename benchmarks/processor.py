"""What the processor costs per record, against reading and writing the same JSON bare.

One process, both measured in turn; the figure that counts is the ratio.
    python benchmarks/processor.py
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

from stockpipe.domain.quote import quote_json
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.functions.batch import Arrived
from stockpipe.functions.process import read
from stockpipe.functions.table import item_of

ROUNDS = 15


def cpu_us(work: Callable[[], object], records: int) -> float:
    """Microseconds of CPU per record: the median of the rounds."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return median(spent) / records * 1e6


def main() -> None:
    payloads = [quote_json(quote).encode() for quote in read_csv("sample")]
    now = datetime.now(UTC)
    batch = [
        Arrived(str(seq), "shardId-0", data, base64.b64encode(data).decode(), now)
        for seq, data in enumerate(payloads)
    ]

    def process() -> None:
        rows, refused = read(batch)
        assert not refused
        for row in rows:
            quote_json(row.quote, seq=row.padded_seq)
            item_of(row.quote, anomaly_micro=5_000_000)

    def bare() -> None:
        for data in payloads:
            json.dumps(json.loads(data))

    ours, theirs = cpu_us(process, len(batch)), cpu_us(bare, len(batch))
    print(f"processor {ours:.1f} us/record, bare JSON {theirs:.1f} us/record")
    print(f"ratio {ours / theirs:.2f} (target: at most 4)")


if __name__ == "__main__":
    main()
