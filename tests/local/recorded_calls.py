"""Every operation that the program calls through botocore, and who called it.

Copied as ``sitecustomize.py`` into a directory on PYTHONPATH, it runs in every Python that starts
there: the command, which is not changed for it, and the functions of the embedded cloud.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CALLER = "CALLS_OF"
"""Environment variable: in whose name the command runs. A function has a name of its own."""
FILE = "calls.jsonl"


def record(file: Path, caller: str) -> None:
    """From now on, write down what this process calls: [caller, "service.Operation"]."""
    from botocore import handlers

    written: set[str] = set()

    def note(model: Any, **rest: Any) -> None:
        operation = f"{model.service_model.service_name}.{model.name}"
        if operation not in written:
            written.add(operation)
            with file.open("a") as lines:
                lines.write(json.dumps([caller, operation]) + "\n")

    handlers.BUILTIN_HANDLERS.append(("before-call", note))


def read(file: Path) -> set[tuple[str, str]]:
    """(caller, operation)."""
    return {(caller, name) for caller, name in map(json.loads, file.read_text().splitlines())}


if __name__ == "sitecustomize":
    _caller = os.environ.get(CALLER) or os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if _caller:
        record(Path(__file__).with_name(FILE), _caller)
