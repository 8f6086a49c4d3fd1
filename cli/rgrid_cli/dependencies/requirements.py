"""Requirements files, as pip has them: `-r`, `-c`, markers, extras, hashes, local wheels, options.

They are taken apart here, so that what is submitted says all there is, and so that a mistake is found before anything
is sent. What only means something on this machine (an editable install of the project itself) is left out and said.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rgrid.errors import Code, RGridError
from rgrid_cli.dependencies.found import Found

_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASHES = re.compile(r"\s+--hash[= ]\S+")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
#: Options about how to install, which the grid decides.
_IGNORED = ("--no-binary", "--only-binary", "--prefer-binary", "--pre", "--use-feature", "--trusted-host", "--no-index")


def read_requirements(file: Path, *, project: str | None = None) -> Found:
    """Take a requirements file apart; `project` is the name of the project itself, which is not installed."""
    found = Found(file.name)
    _Reader(found, project).read(file, constraint=False)
    return found


def check_requirement(line: str, where: str) -> Requirement:
    """Return a requirement as it is understood; raise `dependencies-invalid` when it is not."""
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise RGridError(
            Code.DEPENDENCIES_INVALID, f"{where}: {line!r} is not a requirement: {str(error).splitlines()[0]}"
        ) from None


class _Reader:
    """One reading of a file and of those it names."""

    def __init__(self, found: Found, project: str | None) -> None:
        self._found = found
        self._project = canonicalize_name(project) if project else None
        self._seen: set[tuple[Path, bool]] = set()

    def read(self, file: Path, *, constraint: bool) -> None:
        file = file.absolute()
        if (file, constraint) in self._seen:
            return
        self._seen.add((file, constraint))
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise RGridError(Code.DEPENDENCIES_INVALID, f"{file} is not UTF-8") from None
        except OSError as error:
            raise RGridError(Code.FILE_NOT_FOUND, f"{file}: {error.strerror}") from error
        for number, line in _lines(text):
            self._line(line, file, f"{file.name}, line {number}", constraint=constraint)

    def _line(self, line: str, file: Path, where: str, *, constraint: bool) -> None:
        if line.startswith("-"):
            self._option(line, file, where, constraint=constraint)
            return
        bare = _HASHES.sub("", line).strip()
        if (path := _local_path(bare, file.parent)) is not None:
            self._path(path, bare, where)
            return
        if bare.startswith(("git+", "http://", "https://")):
            self._found.requirements.append(line)
            return
        requirement = check_requirement(bare, where)
        if canonicalize_name(requirement.name) == self._project:
            self._found.notes.append(f"{where}: {requirement.name} is the project itself; it is not installed")
            return
        (self._found.constraints if constraint else self._found.requirements).append(line)

    def _option(self, line: str, file: Path, where: str, *, constraint: bool) -> None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise RGridError(Code.DEPENDENCIES_INVALID, f"{where}: {line!r}: {error}") from None
        option, equals, value = words[0].partition("=")
        if not equals and not option.startswith("--") and len(option) > 2:  # noqa: PLR2004  # `-rFILE`
            option, value = option[:2], option[2:]
        value = value or (words[1] if len(words) > 1 else "")
        match option:
            case "-r" | "--requirement":
                self.read(file.parent / value, constraint=constraint)
            case "-c" | "--constraint":
                self.read(file.parent / value, constraint=True)
            case "-e" | "--editable":
                self._path(file.parent / value, value, where)
            case "-i" | "--index-url" | "--extra-index-url":
                self._found.indexes.append(value)
            case _ if option in _IGNORED:
                self._found.notes.append(f"{where}: {option} is left out; the grid decides how packages are installed")
            case _:
                raise RGridError(Code.DEPENDENCIES_INVALID, f"{where}: nothing is known of the option {option}")

    def _path(self, path: Path, written: str, where: str) -> None:
        if path.is_dir():
            self._found.notes.append(
                f"{where}: {written} is a folder; it is not installed, its modules go along if used"
            )
            return
        if not path.is_file():
            raise RGridError(Code.FILE_NOT_FOUND, f"{where}: there is no file {written}")
        self._found.local[len(self._found.requirements)] = path.absolute()
        self._found.requirements.append(written)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Give logical lines without comments, each with the number it begins at."""
    began, waiting = 0, ""
    for number, physical in enumerate(text.splitlines(), 1):
        began = began or number
        line = physical.rstrip()
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            waiting += line[:-1] + " "
            continue
        whole = _COMMENT.sub("", waiting + line).strip()
        if whole:
            yield began, whole
        began, waiting = 0, ""
    if whole := _COMMENT.sub("", waiting).strip():
        yield began, whole


def _local_path(bare: str, folder: Path) -> Path | None:
    """Return the file or folder a line names, or None where it names a distribution."""
    text = bare.removeprefix("file://") if bare.startswith("file:///") else bare
    looks_like_path = text.startswith((".", "/")) or (
        text.endswith(_ARCHIVES) and "://" not in text and "@" not in text
    )
    if not looks_like_path:
        return None
    text = text.partition("[")[0] if text.startswith(".") else text
    return folder / text
