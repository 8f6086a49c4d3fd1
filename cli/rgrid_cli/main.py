"""The command line's front door: all commands, and the one place where an error becomes words and an exit code."""

import json
import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from rgrid.errors import CATALOGUE, EXIT_BAD_INPUT, EXIT_CANCELLED, Code, RGridError
from rgrid_cli import db, doctor, grid, info, jobs, keys, output
from rgrid_cli import run as running

app = typer.Typer(
    name="rgrid",
    help="Run anybody's script on a grid of machines, in a container, as easily as locally.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("run", context_settings=running.PASS_THROUGH)(running.run)
app.command("submit", context_settings=running.PASS_THROUGH)(running.submit)
app.command("list")(jobs.list_)
app.command("show")(jobs.show)
app.command("logs")(jobs.logs)
app.command("cancel")(jobs.cancel)
app.command("wait")(jobs.wait)
app.command("download")(jobs.download)
app.command("up")(grid.up)
app.command("down")(grid.down)
app.command("status")(grid.status)
app.command("env")(grid.env)
app.command("nodes")(info.nodes)
app.command("runtimes")(info.runtimes)
app.command("doctor")(doctor.doctor)
app.command("version")(info.version)
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.add_typer(info.config, name="config")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Take what stands before the command."""
    if debug:
        os.environ["RGRID_DEBUG"] = "1"


def run() -> None:
    """Be `rgrid`."""
    sys.exit(main(sys.argv[1:]))


def main(words: list[str]) -> int:
    """Run one command and return its exit code; nothing escapes it."""
    try:
        code = app(words, prog_name="rgrid", standalone_mode=False)
    except RGridError as error:
        return _fail(error, words)
    except typer.Abort:
        return EXIT_CANCELLED
    except TyperException as error:
        return _misused(error, words)
    except KeyboardInterrupt:
        output.say("")
        return EXIT_CANCELLED
    except BrokenPipeError:
        # Whoever read us has had enough; writing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # the last border: a person gets words, not a stack
        fault = RGridError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        fault.__cause__ = error
        return _fail(fault, words)
    return code if isinstance(code, int) else 0


def _misused(error: TyperException, words: list[str]) -> int:
    """Say what cannot be understood; a bare `rgrid`, or a bare group, gets its help instead."""
    context = getattr(error, "ctx", None)
    if not words or type(error).__name__ == "NoArgsIsHelpError":
        output.say(error.format_message())
        return EXIT_BAD_INPUT
    where = context.command_path if context is not None else "rgrid"
    return _fail(RGridError(Code.USAGE, error.format_message(), hint=f"See `{where} --help`."), words)


def _fail(error: RGridError, words: list[str]) -> int:
    if os.environ.get("RGRID_DEBUG"):
        traceback.print_exception(error)
    message = " ".join(error.message.split())
    if "--json" in words:
        fault = {"code": error.code, "title": CATALOGUE[error.code].meaning, "detail": message, "hint": error.hint}
        output.say(json.dumps(fault | {"exit_code": error.exit_code}, ensure_ascii=False))
        return error.exit_code
    output.say(f"error[{error.code}]: {message}")
    if error.hint:
        output.say(f"hint: {error.hint}")
    return error.exit_code
