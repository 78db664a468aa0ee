"""The root command: options that hold everywhere, the journey, and the one error handler."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from itertools import pairwise
from typing import Annotated, Any

import typer

from stockpipe import __version__
from stockpipe.cli import ui
from stockpipe.cli.context import Options
from stockpipe.errors import NotProvisioned, StockpipeError, UsageError

EVERYWHERE = "Before or after any command: --target local|aws, --stack NAME, --region R, -q, -v."

JOURNEY = """\
A stock-market pipeline, on this machine or in your AWS account.

    stockpipe demo                  see all of it run, on this machine
    stockpipe provision             make the pipeline (local unless --target aws)
    stockpipe stream AAPL MSFT      send quotes into it
    stockpipe tail                  watch the records arrive
    stockpipe query top-movers      ask the history in SQL
    stockpipe teardown              remove everything again

All commands: stockpipe --help. Nothing that costs money is made until you say --target aws."""

app = typer.Typer(
    name="stockpipe",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EVERYWHERE,
)

_VALUED = {"--target", "--stack", "--region", "--profile"}
_FLAGS = {"--quiet", "-q", "--verbose", "-v", "--debug"}


def _version(wanted: bool) -> None:
    if wanted:
        ui.text(f"stockpipe {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    target: Annotated[
        str | None, typer.Option(help="local (default) or aws.", show_default=False)
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Which copy of the pipeline.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile (target aws).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks instead of messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """A stock-market pipeline, on this machine or in your AWS account."""
    ui.quiet = quiet
    ctx.obj = Options(target, stack, region, profile, verbose, debug)
    if ctx.invoked_subcommand is None:
        ui.text(JOURNEY)


for _command in (
    "demo", "provision", "stream", "tail", "query", "alerts", "backtest", "status", "cost",
    "local", "config", "teardown",
):  # fmt: skip
    importlib.import_module(f"stockpipe.cli.{_command}").register(app)


def hoist(arguments: list[str]) -> list[str]:
    """Move the options that hold everywhere to the front, so that they may stand anywhere."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            return front + rest + arguments[position:]
        if argument in _FLAGS or (argument.partition("=")[0] in _VALUED and "=" in argument):
            front.append(argument)
        elif argument in _VALUED:
            front += arguments[position : position + 2]
            position += 1
        else:
            rest.append(argument)
        position += 1
    return front + rest


def main() -> None:
    """The entry point. 0 done, 1 failed, 2 usage, 3 changes planned, 130 interrupted."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    ui.json_wanted = "--json" in arguments or "--format=json" in arguments
    ui.json_wanted |= ("--format", "json") in pairwise(arguments)
    # SIGTERM ends as cleanly as Ctrl-C: what runs is finished, what was begun is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(args=hoist(arguments), prog_name="stockpipe", standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of the pipe has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        problem = _explained(error)
        ui.error(problem)
        code = problem.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> StockpipeError:
    """Whatever was raised, as something that a person can act on."""
    if isinstance(error, NotProvisioned):
        error.hint = f"Run `stockpipe provision{ui.place_flags}` first."
    if isinstance(error, StockpipeError):
        return error
    formatted: Any = getattr(error, "format_message", None)
    if formatted is not None:  # typer's own: an unknown option, a missing argument
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context else "stockpipe"
        return UsageError(str(formatted()), hint=f"See {command} --help.")
    if type(error).__module__.startswith("botocore"):
        return StockpipeError(f"AWS: {error}", hint=_aws_hint(error))
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return StockpipeError(f"{error.strerror or error}{place}")
    return StockpipeError(
        f"Unexpected {type(error).__name__}: {error}",
        hint="This is a bug. Run again with --debug, and report what it prints.",
    )


def _aws_hint(error: Exception) -> str:
    from stockpipe.functions.faults import EXPIRED, error_code

    code = error_code(error)
    if code in ("EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError"):
        return "On local: stockpipe local status. On aws: check the network and --region."
    if "AccessDenied" in code or code == "UnauthorizedOperation":
        return "The credentials lack this permission. See `stockpipe config policy`."
    if code in EXPIRED:
        return "Log in again (aws sso login, or new keys), then run the same command."
    return "Run again with --debug for the whole story."


if __name__ == "__main__":
    main()
