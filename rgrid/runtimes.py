"""Runtimes: short names for an image and the way it runs a file. Allow-listed here, and nowhere else.

A runtime never runs a file it does not know how to run: `node` is never asked to `python script`.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from rgrid.errors import Code, RGridError


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run a script."""

    #: What people type.
    name: str
    image: str
    #: What stands before the script's path in the container.
    command: tuple[str, ...]
    #: File endings that choose this runtime when none is given.
    endings: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    #: Which way of declaring dependencies it has, if any.
    family: Literal["python", "node", "other"] = "other"
    #: Version of its language, where dependencies ask for it.
    version: str = ""


def _python(version: str) -> Runtime:
    return Runtime(f"python{version}", f"python:{version}", ("python", "-u"), family="python", version=version)


def _node(version: str) -> Runtime:
    return Runtime(f"node{version}", f"node:{version}", ("node",), family="node", version=version)


DEFAULT = "python"
RUNTIMES: tuple[Runtime, ...] = (
    Runtime("python", "python:3.11", ("python", "-u"), (".py",), ("python3",), "python", "3.11"),
    *(_python(f"3.{minor}") for minor in range(9, 15)),
    Runtime("node", "node:20", ("node",), (".js", ".mjs", ".cjs"), ("nodejs", "javascript"), "node", "20"),
    *(_node(str(major)) for major in (18, 20, 22, 24)),
    Runtime("bash", "bash:5", ("bash",), (".sh", ".bash")),
    Runtime("ruby", "ruby:3.3", ("ruby",), (".rb",)),
    Runtime("perl", "perl:5", ("perl",), (".pl",)),
    Runtime("php", "php:8.3-cli", ("php",), (".php",)),
    Runtime("r", "r-base:4.4.1", ("Rscript",), (".r", ".R"), ("R", "rscript")),
)

_BY_NAME = {name: r for r in RUNTIMES for name in (r.name, r.image, *r.aliases)} | {
    r.name: r
    for r in RUNTIMES  # a name of its own wins over another's alias
}
#: Images jobs may always run in.
IMAGES = frozenset(r.image for r in RUNTIMES)
_BY_ENDING = {ending: r for r in RUNTIMES for ending in r.endings}


def find_runtime(name: str | None) -> Runtime:
    """Return the runtime called `name`; none given means Python 3.11.

    Raises `RGridError` (`runtime-unknown`), naming the nearest and listing all.
    """
    if name is None:
        name = DEFAULT
    found = _BY_NAME.get(name) or _BY_NAME.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=1, cutoff=0.5)
        nearest = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(r.name for r in RUNTIMES)
        raise RGridError(
            Code.RUNTIME_UNKNOWN,
            f"no runtime is called {name!r}{nearest} There are: {known}",
            name=name,
            nearest=near,
        )
    return found


def resolve_runtime(name: str | None) -> str:
    """Return the image of the runtime called `name`: `resolve_runtime("python3.12") == "python:3.12"`."""
    return find_runtime(name).image


def runtime_for(script: str) -> Runtime:
    """Return the runtime a script's ending chooses; raise `runtime-undecided` when it says nothing."""
    ending = PurePath(script).suffix
    found = _BY_ENDING.get(ending) or _BY_ENDING.get(ending.lower())
    if found is None:
        what = f"a file that ends in {ending!r}" if ending else "a file without an ending"
        raise RGridError(Code.RUNTIME_UNDECIDED, f"{script}: nothing is known about how to run {what}")
    return found


def names() -> Iterable[str]:
    """Return every runtime's own name, in the order they are shown."""
    return (r.name for r in RUNTIMES)
