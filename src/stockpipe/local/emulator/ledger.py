"""Who was judged on what: a line for every principal, action and resource that IAM decided on.

Off, unless a file ``ledger.jsonl`` lies in the home when the server starts; the proof of least
privilege reads it there. Root is not judged, and not written down.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stockpipe.local.emulator.parts import replace


class Entry(NamedTuple):
    """``principal``: the ARN of a role's session. ``decision``: Allow, Deny or ImplicitDeny."""

    principal: str
    action: str
    resource: str
    decision: str


def install(file: Path) -> None:
    """Write down what is judged from now on, each entry once, where the file is there."""
    if not file.exists():
        return
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id

    written: set[Entry] = set()
    lock = threading.Lock()

    def enforce(
        key: str, action: str, service: str, region: str, resource_arn: str = "*", **named: Any
    ) -> Any:
        result = original(key, action, service, region, resource_arn=resource_arn, **named)
        if isinstance(result, iam_evaluator.AuthError):
            return result
        principal = iam_evaluator.resolve_principal(key, get_account_id())
        if principal.policies is not None:
            decision = "Allow" if result is None else result.decision
            note(Entry(principal.arn, action, resource_arn, decision))
        return result

    def note(entry: Entry) -> None:
        with lock:
            if entry not in written:
                written.add(entry)
                with file.open("a") as lines:
                    lines.write(json.dumps(entry) + "\n")

    original: Callable[..., Any] = replace(iam_evaluator, "enforce", enforce)


def read(file: Path) -> set[Entry]:
    """What a server has written down."""
    return {Entry(*json.loads(line)) for line in file.read_text().splitlines()}
