"""The two streams: data to stdout, everything else to stderr."""

from __future__ import annotations

import os

from rich.console import Console


class Data(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the reader has seen enough: main ends quietly


class Talk(Console):
    def on_broken_pipe(self) -> None:
        """Nobody listens any more; what is being done is finished all the same."""
        self.quiet = True
        # Python flushes once more at exit, and would end with an error of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = Data(highlight=False, soft_wrap=True)
err = Talk(stderr=True, highlight=False, soft_wrap=True)
errors = Talk(stderr=True, highlight=False, soft_wrap=True)
