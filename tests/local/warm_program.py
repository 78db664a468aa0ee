"""The program without the wait for its start: a warm process forks one that runs it, per call.

``WarmProgram`` is the test's side. Run as a program, this file is the other side: a process that
has imported what takes long, and read the models of the AWS services, that every command would
read again. ``stockpipe.cli``, which looks at its environment as it is imported, is imported anew in
each child, which is otherwise what ``python -m stockpipe`` is: a process of its own, with its own
arguments, environment, directory, output and exit code. Pytest itself must not fork: its workers
have threads.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

IMPORTED = (
    "boto3", "concurrent.futures.thread", "platformdirs", "rich.columns", "rich.live",
    "rich.progress", "rich.table", "sqlglot", "typer", "urllib3",
    "stockpipe.config", "stockpipe.infra.apply", "stockpipe.infra.blueprint",
    "stockpipe.local.daemon",
)  # fmt: skip
FOR_YAHOO = ("bs4", "google.protobuf.message", "pandas", "requests", "websockets")
"""What takes long of yfinance; itself and curl_cffi look at their environment as they are imported.

Imported as soon as a call's environment leads to a Yahoo that is played.
"""


@dataclass(frozen=True)
class Call:
    """One run of the program; standard input is empty."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    out: str
    """The file that is its standard output."""
    err: str
    budget_s: int
    source: str = ""
    """What runs instead of the program, as ``python -c`` would."""


class WarmProgram:
    """The test's side: runs the program, one call after the other."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._places = tempfile.TemporaryDirectory(prefix="stockpipe-warm-")
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, *,
        budget_s: int, source: str = "",
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run to the end, or until SIGALRM ends it after ``budget_s`` seconds."""
        out, err = (Path(self._places.name) / name for name in ("out", "err"))
        call = Call(
            list(arguments), dict(environment), str(directory), str(out), str(err), budget_s, source
        )
        assert self._process.stdin
        assert self._process.stdout
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(asdict(call)) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            said = [file.read_text("utf-8") for file in (out, err)]
        return subprocess.CompletedProcess(call.arguments, code, *said)

    def end(self) -> None:
        with self._process, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin
            self._process.stdin.close()
        self._places.cleanup()


@functools.cache
def warm_program() -> WarmProgram:
    """One for all tests of this process; it ends with it."""
    program = WarmProgram()
    atexit.register(program.end)
    return program


def _serve() -> None:
    """Fork a child per line of standard input, and answer with its exit code."""
    _import_what_takes_long()
    gc.freeze()  # else a child's first collection copies all of it
    while line := sys.stdin.readline():
        call = Call(**json.loads(line))
        if "HTTPS_PROXY" in call.environment and "pandas" not in sys.modules:
            os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a child would be without the others
            for name in FOR_YAHOO:
                importlib.import_module(name)
            gc.freeze()
        pid = os.fork()
        if pid == 0:
            break
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    else:
        return
    _become(call)


def _import_what_takes_long() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    import boto3
    from botocore.loaders import JSONFileLoader

    read = functools.cache(JSONFileLoader().load_file)  # the files of the installed package
    setattr(JSONFileLoader, "load_file", lambda self, file_path: read(file_path))  # noqa: B010
    session = boto3.Session("nobody", "nothing", region_name="us-east-2")
    for service in (
        "athena", "cloudwatch", "dynamodb", "dynamodbstreams", "events", "glue", "iam", "kinesis",
        "lambda", "logs", "s3", "sns", "sts",
    ):  # fmt: skip
        session.client(service)


def _become(call: Call) -> None:
    """The child: from here on the program, as ``python -m stockpipe`` starts it."""
    signal.alarm(call.budget_s)
    for number, file in enumerate((os.devnull, call.out, call.err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(call.environment)
    os.chdir(call.directory)
    sys.path[0] = call.directory
    if "PYTHONPATH" in call.environment:  # which an interpreter looks at as it starts
        sys.path[1:1] = call.environment["PYTHONPATH"].split(os.pathsep)
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ImportError):
            importlib.import_module("sitecustomize")
    sys.argv[1:] = call.arguments
    if call.source:
        exec(call.source, {"__name__": "__main__"})  # noqa: S102 - a test's own
        return
    runpy.run_module("stockpipe", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
