"""The bytes of a file that is replayed: a path, standard input or the bundled sample, unpacked."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from stockpipe.domain.quote import Quote
from stockpipe.errors import FeedError

SAMPLE = "sample"
SAMPLE_FILE = "sample.csv.gz"
STDIN = "-"


class Source(NamedTuple):
    """An open file: its name for people, and its unpacked bytes, which can be peeked into."""

    name: str
    stream: Any

    def begins_with(self, character: bytes) -> bool:
        """Whether this is the first byte that is neither white space nor a byte order mark."""
        return bool(self.stream.peek(64)[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == character)


@contextmanager
def opened(file: str) -> Iterator[Source]:
    """The file for reading, gzipped or not; standard input is left open.

    What reading it raises within the context becomes a :class:`FeedError` that names the file.
    """
    name = {SAMPLE: "the bundled sample", STDIN: "standard input"}.get(file, file)
    try:
        with _packed(file) as raw:
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"  # by content: a name can lie
            yield Source(name, gzip.GzipFile(fileobj=raw) if zipped else raw)
    except FileNotFoundError:
        raise FeedError(
            f"There is no file {name}.", hint="`--source replay:sample` is bundled."
        ) from None
    except UnicodeDecodeError:
        raise FeedError(f"{name} is not UTF-8 text.", hint="Save it as UTF-8 CSV.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FeedError(f"{name} is not a whole gzip file: {error}") from None
    except OSError as error:
        raise FeedError(f"{name} cannot be read: {error.strerror or error}") from None


def in_time_order(name: str, quotes: list[Quote]) -> list[Quote]:
    """The quotes of a file across its symbols; raises :class:`FeedError` where there are none."""
    if not quotes:
        raise FeedError(f"{name} holds no quotes.")
    # Stable: rows of one time keep the order of the file, so the last of one key wins.
    quotes.sort(key=lambda quote: quote.timestamp)
    return quotes


@contextmanager
def _packed(file: str) -> Iterator[Any]:
    """The bytes as they are, as a BufferedReader."""
    if file == STDIN:
        yield sys.stdin.buffer
    elif file == SAMPLE:
        with resources.files("stockpipe").joinpath("data", SAMPLE_FILE).open("rb") as raw:
            yield raw
    else:
        with Path(file).expanduser().open("rb") as raw:
            yield raw
