"""Files into a workspace and out of it again: inputs laid out as they were submitted, new and changed files collected.

What a script left behind is hostile until shown otherwise: links are never followed, only regular files are read, and
a file that changes while it is read is caught by its digest.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rgrid.domain.ids import Owner
from rgrid.domain.job import InputFile, OutputFile
from rgrid.errors import Code, RGridError
from rgrid.store.ports import BlobStore
from rgrid.wire import check_path

#: Folders a runtime fills with what nobody asked for.
NOT_OUTPUTS = frozenset({"__pycache__", ".cache", ".npm", ".config", ".local"})
#: As many as a person could want one by one; each is a row, and a download.
MAX_OUTPUTS = 10_000
#: What an empty file costs its file system, as nearly as it matters: a million of them are not nothing.
_FILE_BYTES = 4096
#: Errors of a disk that is full, or of one's share of it.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
Snapshot = dict[str, tuple[int, int]]


class InputError(Exception):
    """An input could not be laid out; the message says which and why."""


class OutputError(Exception):
    """The outputs could not be collected; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The user and group a job runs as."""

    uid: int
    gid: int


def lay_out(
    workspace: Path,
    inputs: Sequence[InputFile],
    blobs: BlobStore,
    ids: Ids,
    given_up: Callable[[], bool] = lambda: False,
) -> Snapshot:
    """Make the workspace with all inputs in it, owned by the job; return what each file looked like.

    A folder that is there from a try that was cut short is filled again. Stops between files once it is `given_up`.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    folders = {workspace}
    snapshot: Snapshot = {}
    for file in inputs:
        if given_up():
            raise InputError("given up")
        path = workspace / check_path(file.path)
        for parent in reversed(path.relative_to(workspace).parents):
            folders.add(workspace / parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, file, blobs)
        path.chmod(0o755 if file.executable else 0o644)
        _give(path, ids)
        found = path.lstat()
        snapshot[file.path] = (found.st_size, found.st_mtime_ns)
    for folder in folders:
        folder.chmod(0o755)
        _give(folder, ids)
    return snapshot


def collect(
    workspace: Path,
    before: Snapshot,
    blobs: BlobStore,
    owner: Owner,
    limit: int,
    *,
    left_out: Callable[[str], None] = lambda _: None,
) -> tuple[OutputFile, ...]:
    """Store every regular file that is new or changed; raise `OutputError` where that cannot be done.

    `limit` bounds their bytes in all, `MAX_OUTPUTS` their number. `left_out` is told of what cannot be kept.
    """
    wanted: list[tuple[str, Path, os.stat_result]] = []
    total = 0
    for path, entry in walk(workspace, left_out):
        status = entry.stat(follow_symlinks=False)
        if before.get(path) == (status.st_size, status.st_mtime_ns):
            continue
        total += status.st_size
        wanted.append((path, Path(entry.path), status))
        if total > limit:
            raise OutputError(f"its outputs hold more than the {limit} bytes the job may use")
        if len(wanted) > MAX_OUTPUTS:
            raise OutputError(f"it left more than {MAX_OUTPUTS} files; pack them into one")
    found: list[OutputFile] = []
    for path, file, status in wanted:
        # The container is stopped, but its links are still there: the store never follows one.
        try:
            digest, size = blobs.store_output(file, owner=owner)
        except OSError as error:
            raise OutputError(f"the output {path} cannot be read: {error.strerror}") from error
        found.append(OutputFile(path, digest, size, bool(status.st_mode & stat.S_IXUSR)))
    return tuple(found)


def disk_usage(workspace: Path, *, links_once: bool = False) -> int:
    """Return the bytes a folder occupies, as nearly as a walk can tell while somebody writes.

    With `links_once`, files that have several names in it are counted once.
    """
    total, seen = 0, set[int]()
    pending = [str(workspace)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            status = entry.stat(follow_symlinks=False)
                            if links_once and status.st_nlink > 1:
                                if status.st_ino in seen:
                                    continue
                                seen.add(status.st_ino)
                            total += max(_FILE_BYTES, status.st_blocks * 512)
                    except OSError:  # it went while we looked
                        continue
        except OSError:
            continue
    return total


def walk(workspace: Path, left_out: Callable[[str], None]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Give every regular file worth keeping, by its path in the workspace, in the order of their names."""
    pending = [workspace]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            path = os.path.relpath(entry.path, workspace)
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in NOT_OUTPUTS:
                    pending.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                try:
                    check_path(path)
                except ValueError:  # a name nobody could download
                    left_out(path)
                else:
                    yield path, entry
            else:  # a link, a pipe: nothing is followed that a script left behind
                left_out(path)


def _write(path: Path, file: InputFile, blobs: BlobStore) -> None:
    size = 0
    try:
        with path.open("wb") as target:
            for piece in blobs.open(file.digest):
                size += len(piece)
                if size > file.size:  # what was submitted was held against the limits by the size it claimed
                    raise InputError(f"{file.path}: it is larger than the {file.size} bytes submitted")
                target.write(piece)
    except RGridError as error:
        if error.code is Code.NOT_FOUND:
            raise InputError(f"{file.path}: its content is no longer stored") from error
        raise
    except OSError as error:
        if error.errno in FULL:
            raise RGridError(Code.DISK_FULL, "there is no space left on the node's disk") from error
        raise InputError(f"{file.path}: {error.strerror}") from error


def _give(path: Path, ids: Ids) -> None:
    if os.geteuid() == 0:
        os.chown(path, ids.uid, ids.gid, follow_symlinks=False)
