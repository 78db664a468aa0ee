"""The file of ``stream --record``: every quote that was read, one line each, to be replayed.

After each round everything is in the operating system's hands, so a crash of ours loses at most
the round that is being written, and :mod:`stockpipe.feeds.ndjson` reads what is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import StockpipeError, UsageError

GZIP_FORMAT = 31
"""zlib's window bits for the largest window and a gzip header."""


class Recorder:
    """Writes to a new file, gzipped where its name ends in ``.gz``. Not for several threads.

    Entering raises :class:`UsageError` where the file cannot be made or has content already;
    :meth:`write` raises :class:`StockpipeError` once the disk is full, and what the file then
    holds are whole quotes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._file: FileIO | None = None
        zipped = path.suffix.lower() == ".gz"
        self._packer = zlib.compressobj(wbits=GZIP_FORMAT) if zipped else None
        self._size = 0
        self.quotes = 0
        """How many the file holds."""

    def __enter__(self) -> Self:
        self._file = self._new_file()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None:  # it has ended before, on a full disk
            return
        # Without a quote the file stays empty, so that its name can be used again.
        if self._packer and self.quotes:
            self._append(self._packer.flush(zlib.Z_FINISH))
        self._end()

    def write(self, quotes: Iterable[Quote]) -> None:
        """Append the quotes of one round, as they are."""
        lines = [quote_json(quote) + "\n" for quote in quotes]
        if not lines:
            return
        data = "".join(lines).encode()
        if self._packer:
            # A sync flush ends on a whole byte: what is in the file can be unpacked without the
            # rest. https://www.zlib.net/manual.html (Z_SYNC_FLUSH)
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        self._append(data)
        self.quotes += len(lines)

    def _new_file(self) -> FileIO:
        try:
            return FileIO(self._path, "x")
        except FileExistsError:
            if self._path.is_file() and self._path.stat().st_size == 0:
                return FileIO(self._path, "w")
            raise UsageError(
                f"{self._path} is there already; a recording is not mixed into it.",
                hint="Choose another name for --record.",
            ) from None
        except FileNotFoundError:
            raise UsageError(
                f"There is no directory {self._path.parent} for the recording.",
                hint="Make it, or choose another place for --record.",
            ) from None
        except OSError as error:
            raise UsageError(
                f"{self._path} cannot be written: {error.strerror or error}.",
                hint="Choose another place for --record.",
            ) from None

    def _append(self, data: bytes) -> None:
        """Write all of it; where that fails, end the file as it was before."""
        if self._file is None:
            raise ValueError("a Recorder is used within its context, and not after it failed")
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(self._size)
            self._end()
            raise StockpipeError(
                f"The recording {self._path} ends here: {error.strerror or error}. "
                f"Quotes recorded: {self.quotes:,}.",
                hint="Free some space and record to another file. This one can be replayed.",
            ) from error
        self._size += len(data)

    def _end(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
