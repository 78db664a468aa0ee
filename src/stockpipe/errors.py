"""Every error that stockpipe raises on purpose, and the exit code it ends a command with.

::

    StockpipeError                1
    ├── UsageError                2   the call itself is wrong: an option, a symbol, a query name
    │   ├── ConfigError           2   a setting is wrong: names file, key and rule
    │   └── ConfirmationRequired  2   aws, no terminal, and nothing confirmed
    ├── FeedError                 1   the source of quotes refuses, is unreachable, or sent nonsense
    │   └── BadRow                1   one row of a file: names file, line, column and rule
    ├── LocalCloudError           1   the embedded cloud cannot start, or has died
    ├── NotProvisioned            1   a resource that the command needs is not there
    ├── ForeignResource           1   something of our name is not ours
    ├── ProvisionError            1   one or more resources could not be converged
    └── QueryFailed               1   Athena refused or failed a statement

A message says what happened and where; ``hint`` says what to do next. Only ``cli`` prints them.
"""

from __future__ import annotations


class StockpipeError(Exception):
    """The root: ``message`` for people, an optional ``hint`` and the process's exit code."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(StockpipeError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class ConfirmationRequired(UsageError):
    pass


class FeedError(StockpipeError):
    pass


class BadRow(FeedError):
    """A row that breaks a rule.

    ``line`` counts from 1 with the header as line 1, as editors do.
    """

    def __init__(self, file: str, line: int, column: str, rule: str) -> None:
        self.file, self.line, self.column, self.rule = file, line, column, rule
        super().__init__(
            f"{file}, line {line}, column {column}: {rule}",
            hint="Correct the row and run again; nothing was sent.",
        )


class LocalCloudError(StockpipeError):
    pass


class NotProvisioned(StockpipeError):
    pass


class ForeignResource(StockpipeError):
    pass


class ProvisionError(StockpipeError):
    pass


class QueryFailed(StockpipeError):
    pass
