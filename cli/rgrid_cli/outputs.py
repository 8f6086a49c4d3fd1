"""Fetches what a job left behind, into one folder and never out of it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rgrid.client import Client
from rgrid.errors import Code, RGridError
from rgrid.wire import OutputView, check_path
from rgrid_cli import output


def check_folder(folder: Path) -> None:
    """See that outputs can be written to a folder, before anything is begun whose outputs would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RGridError(
            Code.PATH_INVALID,
            f"outputs cannot be written to {folder}: {error.strerror}",
            hint="Name a folder that you may write to.",
        ) from error


def fetch(client: Client, job: str, folder: Path, paths: Sequence[str] = ()) -> list[OutputView]:
    """Write a job's outputs (all, or those named) below `folder`; a file is replaced only once it has come whole."""
    found = client.outputs(job)
    if unknown := set(paths) - {o.path for o in found}:
        raise RGridError(Code.OUTPUT_NOT_FOUND, f"job {job} has no output {min(unknown)!r}")
    wanted = [o for o in found if not paths or o.path in paths]
    for one in wanted:
        target = folder / check_path(one.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(folder.resolve()):
                raise RGridError(Code.SYMLINK_LEAVES_TREE, f"{target.parent} leads out of {folder}")
            aside = target.with_name(f".{target.name[:200]}.{os.getpid()}")
            try:
                with client.output(job, one.path) as pieces, aside.open("wb") as file:
                    for piece in pieces:
                        file.write(piece)
                if one.executable:
                    aside.chmod(aside.stat().st_mode | 0o111)
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            full = error.errno == 28  # noqa: PLR2004  # ENOSPC
            raise RGridError(
                Code.DISK_FULL if full else Code.PATH_INVALID, f"{target}: {error.strerror}", hint=None if full else ""
            ) from error
    if wanted:
        what = "1 output file is" if len(wanted) == 1 else f"{len(wanted)} output files are"
        output.say(f"{what} in {folder}")
    elif not paths:
        output.say("The job left no output files.")
    return wanted
