"""What is sent with a script, and where it will lie: the workspace rule.

Its root is the working directory when the script lies in it, else the script's folder. Sent are the script, what it
imports from beside it, files its arguments name, and what `--with` adds. Relative paths keep their places; whatever
lies outside goes under `inputs/`, and the argument that named it is rewritten. Folders go only by `--with`.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from rgrid.errors import Code, RGridError
from rgrid.wire import FileEntry, check_path
from rgrid_cli.ignores import Ignores
from rgrid_cli.imports import local_imports

OUTSIDE = "inputs"
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A file here and its entry there."""

    file: Path
    entry: FileEntry

    def pieces(self) -> Iterator[bytes]:
        """Give its bytes."""
        with self.file.open("rb") as data:
            while piece := data.read(_PIECE):
                yield piece


@dataclass(slots=True)
class Workspace:
    """A script with everything that goes with it."""

    root: Path
    script: str
    args: list[str]
    sources: list[Source] = field(default_factory=list)
    #: Where the files lie that what the script needs was found in.
    places: dict[Path, str] = field(default_factory=dict)

    @property
    def entries(self) -> list[FileEntry]:
        """The files as they are submitted, each once, in the order of their names."""
        return [source.entry for source in self.sources]


def gather(
    script: str,
    args: Sequence[str],
    extras: Sequence[str],
    *,
    cwd: Path,
    note: Callable[[str], None],
    also: Sequence[Path] = (),
) -> Workspace:
    """Find everything that goes with a script; raise `RGridError` naming the first file that cannot.

    `also` are files that what the script needs was found in.
    """
    path = check_script(cwd / script)
    gathering = _Gathering(cwd if path.is_relative_to(cwd) else path.parent, cwd, note)
    try:
        return gathering.run(path, args, extras, also)
    except OSError as error:  # a folder that may not be looked into, a link that leads round
        at = _shown(Path(error.filename)) if error.filename else script
        raise RGridError(Code.FILE_UNREADABLE, f"{at}: {error.strerror or error}") from error


class _Gathering:
    """The files found so far, by their places."""

    def __init__(self, root: Path, cwd: Path, note: Callable[[str], None]) -> None:
        self.root, self._cwd, self._note = root, cwd, note
        self._real_root = root.resolve()
        self.files: dict[str, Path] = {}
        #: Where something from outside the root went.
        self._outside: dict[Path, str] = {}
        self._numbers = 1

    def run(self, script: Path, args: Sequence[str], extras: Sequence[str], also: Sequence[Path]) -> Workspace:
        """Take everything in, and return it."""
        name = self.add(script)
        for found in local_imports(script):
            self.add_tree(found) if found.is_dir() else self.add(found)
        for extra in extras:
            self.add_extra(extra)
        places = {file: self.add(file) for file in also}
        rewritten = [self.argument(arg) for arg in args]
        sources = [Source(file, _entry(file, place)) for place, file in sorted(self.files.items())]
        return Workspace(self.root, name, rewritten, sources, places)

    def add(self, file: Path, place: str | None = None) -> str:
        """Take one file in and return its place."""
        if place is None:
            inside = file.is_relative_to(self.root)
            place = file.relative_to(self.root).as_posix() if inside else self._place_outside(file)
            if inside:
                self._check_link(file, self._real_root)
        _check_file(file, place)
        self.files[place] = file
        return place

    def add_extra(self, extra: str) -> None:
        """Take in what `--with` names."""
        path = Path(os.path.normpath(self._cwd / extra))
        if not path.exists():
            raise RGridError(Code.FILE_NOT_FOUND, f"--with {extra}: there is no such file or folder")
        if path.is_dir():
            self.add_tree(path)
        else:
            self.add(path)

    def add_tree(self, folder: Path) -> str:
        """Take a folder in, without what its ignore files name."""
        inside = folder.is_relative_to(self.root)
        if folder == self.root:
            place = ""
        else:
            place = folder.relative_to(self.root).as_posix() if inside else self._place_outside(folder)
        bound = self._real_root if inside else folder.resolve()
        ignores = Ignores(self.root if inside else folder)
        for file in _walk(folder, ignores):
            self._check_link(file, bound)
            self.add(file, "/".join(part for part in (place, file.relative_to(folder).as_posix()) if part))
        return place

    def argument(self, arg: str) -> str:
        """Return an argument as the script will see it, and take in the file it names."""
        option, equals, value = arg.partition("=")
        if equals and option.startswith("-"):
            return f"{option}={self._value(value)}"
        return self._value(arg)

    def _value(self, value: str) -> str:
        if not value or "\0" in value or len(value) > 4096:  # noqa: PLR2004  # PATH_MAX: no file's name
            return value
        path = Path(os.path.normpath(self._cwd / value))
        try:
            if path in self._outside:
                return self._outside[path]
            if path.is_dir():
                self._note_folder(value, path)
                return value
            if not path.is_file():
                return value
        except OSError:
            return value
        place = self.add(path)
        # A plain relative name stays as it was typed: it means the same there, for the script runs in the root.
        stays = not Path(value).is_absolute() and path.is_relative_to(self.root) and self.root == self._cwd
        return value if stays and ".." not in Path(value).parts else place

    def _note_folder(self, value: str, path: Path) -> None:
        sent = any((self.root / place).is_relative_to(path) for place in self.files)
        if not sent and value not in {".", "..", "/"}:
            self._note(f"note: the folder {value} is not sent; add it with `--with {value}`")

    def _place_outside(self, path: Path) -> str:
        if path not in self._outside:
            # Never where the root has something of its own: that may go along as well, and has the older right.
            free = (n for n in count(self._numbers) if not os.path.lexists(self.root / OUTSIDE / str(n)))
            number = next(free)
            self._numbers = number + 1
            self._outside[path] = f"{OUTSIDE}/{number}/{path.name}"
        return self._outside[path]

    def _check_link(self, file: Path, bound: Path) -> None:
        """Refuse a link that leads out of what is sent: the user did not mean to send what is there."""
        if not file.resolve().is_relative_to(bound):
            raise RGridError(
                Code.SYMLINK_LEAVES_TREE, f"{_shown(file)} links to {_shown(file.resolve())}, outside {_shown(bound)}"
            )


def _walk(folder: Path, ignores: Ignores) -> Iterator[Path]:
    """Give the files of a folder that nothing tells to ignore; each directory's own ignore files count below it."""
    pending = [folder]
    visited = {folder.resolve()}
    while pending:
        here = pending.pop()
        for entry in sorted(os.scandir(here), key=lambda e: e.name):
            path = Path(entry.path)
            is_folder = entry.is_dir()
            if ignores.ignored(path, is_folder=is_folder):
                continue
            if is_folder:
                real = path.resolve()
                if real not in visited:  # a link that leads back would go on for ever
                    visited.add(real)
                    pending.append(path)
            else:
                yield path


def check_script(path: Path) -> Path:
    """Return the script's path if there is a script that can be read."""
    path = Path(os.path.normpath(path))
    try:
        if path.is_dir():
            raise RGridError(Code.SCRIPT_IS_DIRECTORY, f"{_shown(path)} is a directory, not a script")
        if not path.exists():
            raise RGridError(Code.SCRIPT_NOT_FOUND, f"there is no script {_shown(path)}")
    except OSError as error:
        raise RGridError(Code.SCRIPT_UNREADABLE, f"{_shown(path)}: {error.strerror}") from error
    if not os.access(path, os.R_OK):
        raise RGridError(Code.SCRIPT_UNREADABLE, f"{_shown(path)} may not be read")
    return path


def _check_file(file: Path, place: str) -> None:
    try:
        check_path(place)
    except ValueError as error:
        raise RGridError(Code.PATH_INVALID, str(error).encode("utf-8", "backslashreplace").decode()) from None
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise RGridError(Code.FILE_NOT_FOUND, f"{_shown(file)}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise RGridError(Code.PATH_INVALID, f"{_shown(file)} is neither a file nor a folder")
    if not os.access(file, os.R_OK):
        raise RGridError(Code.FILE_UNREADABLE, f"{_shown(file)} may not be read")


def _entry(file: Path, place: str) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as data:
        while piece := data.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return FileEntry(path=place, digest=digest.hexdigest(), size=size, executable=bool(file.stat().st_mode & 0o100))


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
