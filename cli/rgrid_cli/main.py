"""The command line's front door: all commands, and the one place where an error becomes words and an exit code."""

import errno
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
from rgrid_cli.grid import SERVER_PACKAGES

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


def _print_version(wanted: bool) -> None:
    if wanted:
        info.version()
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Take what stands before the command."""
    del version  # its callback has printed it
    if debug:
        os.environ["RGRID_DEBUG"] = "1"


def main(words: list[str]) -> int:
    """Run one command and return its exit code; nothing escapes it."""
    try:
        _check_text(words)
        code = app(words, prog_name="rgrid", standalone_mode=False)
    except TyperException as error:
        return _misused(error, words)
    except (typer.Abort, KeyboardInterrupt):
        output.say("")
        return EXIT_CANCELLED
    except BrokenPipeError:
        # Whoever read us has had enough; writing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # the last border: a person gets words, not a stack
        return _fail(_known(error), words)
    return code if isinstance(code, int) else 0


def _check_text(words: list[str]) -> None:
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise RGridError(
                Code.USAGE, f"the argument {os.fsencode(word)!r} is not UTF-8", hint="Rename what it names."
            ) from None


def _known(error: Exception) -> RGridError:
    """Return what an exception means to a person; a fault of our own when nobody foresaw it."""
    if isinstance(error, RGridError):
        return error
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in SERVER_PACKAGES:
        known = RGridError(Code.SERVER_NOT_INSTALLED, f"this needs {error.name}, which is not installed")
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        known = RGridError(Code.DISK_FULL, f"cannot write: {error.strerror}")
    else:
        known = RGridError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    known.__cause__ = error
    return known


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
