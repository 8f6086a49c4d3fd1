"""How an environment is made: pure, and the one place where it is written down.

A builder is a container in the job's own image with network, a time, memory and disk limit, and an unprivileged user.
It works in one folder, its workshop, where it finds what was declared and leaves a lock and an environment:

    /rgrid/store/building/<id>/   input/  lock  env/

Wheels are unpacked by uv and run no code of theirs, so such a build may write uv's cache, which all builds of the node
share. What has to be built from source runs anybody's code: such a build sees its own workshop and nothing else of the
store, and its cache goes with it. So no package can change what another job will see.

The environment is relocatable: it is made in the workshop, renamed to where it is kept, and mounted read-only into jobs
at `/rgrid/env`, or at `/node_modules`, where Node looks from any folder.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rgrid.domain.dependencies import Dependencies, Lock

STORE = "/rgrid/store"
UV = "/rgrid/uv"
ENVIRONMENT = "/rgrid/env"
NODE_MODULES = "/node_modules"
#: The builder's own word that the image it runs in cannot do it.
EXIT_NEEDS_TOOLS = 96
#: The builder's own word that code of the packages has to run.
EXIT_NEEDS_SOURCES = 97
#: uv's words for the same.
_NO_WHEEL = (
    "building from source is disabled",
    "Building source distributions for",
    "has no wheels",
    "no usable wheels",
    "no-build",
    "only-binary",
)
#: How a tool says what went wrong; the rest of its output is how it got there.
_WORDS = re.compile(
    r"^\s*(error|\u00d7|╰─▶|├─▶|hint|npm error|npm ERR!|Caused by|The following|Because)", re.IGNORECASE
)
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 700
_EXTRAS = re.compile(r"\[[^\]]*\]")

#: $WORK is the workshop, $SOURCES says whether code of the packages may run, $ANY whether to try without a compiler.
PYTHON = r"""
set -eu
cd "$WORK/input"
python=$(command -v python3 || command -v python) || { echo "error: the image has no Python" >&2; exit 1; }
if [ "$SOURCES" = yes ] && [ "$ANY" = no ]; then command -v cc >/dev/null || command -v gcc >/dev/null || exit 96; fi
no_build=""; [ "$SOURCES" = yes ] || no_build="--no-build"
lock="$WORK/lock"; [ "$FORMAT" != pylock ] || lock="$WORK/pylock.toml"
if [ ! -s "$lock" ]; then
  case "$DECLARED" in
    uv.lock) "$UV" export --frozen --no-emit-project --no-dev --no-header --no-annotate --quiet \
      --format requirements-txt --output-file "$lock" --directory "$LOCKED" ;;
    pylock) cp "$LOCKED" "$lock" ;;
    *) "$UV" pip compile --python "$python" --no-header --no-annotate --generate-hashes --quiet $no_build $INDEXES \
      --constraints constraints.txt --output-file "$lock" requirements.txt ;;
  esac
fi
hashes=""; [ ! -s hashes.txt ] || hashes="--constraints hashes.txt"
echo "installing packages" >&2
"$UV" venv --quiet --relocatable --python "$python" "$WORK/env"
"$UV" pip install --python "$WORK/env/bin/python" --no-deps $no_build $INDEXES -r "$lock" $hashes
"""
#: Compiled beside the first job and not before it: a script that imports little need not wait for all of it.
COMPILE = r"""
set -eu
"$WORK/bin/python" -m compileall -q -j 0 "$WORK/lib" || true
"""
NODE = r"""
set -eu
command -v npm >/dev/null || { [ "$ANY" = no ] && exit 96; echo "error: the image has no npm" >&2; exit 1; }
mkdir -p "$WORK/env"
cd "$WORK/env"
cp "$WORK/input/$PACKAGE" package.json
if [ -s "$WORK/lock" ]; then cp "$WORK/lock" package-lock.json
elif [ -n "$LOCKED" ]; then cp "$WORK/input/$LOCKED" package-lock.json
else npm install --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error; fi
cp package-lock.json "$WORK/lock"
scripts="--ignore-scripts"
if [ "$SOURCES" = yes ]; then scripts=""; elif grep -q '"hasInstallScript": true' package-lock.json; then exit 97; fi
npm ci --omit=dev --no-audit --no-fund --loglevel=error $scripts
mkdir -p node_modules
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one builder is to do."""

    kind: Literal["python", "node"]
    script: str
    environment: Mapping[str, str]
    #: Files of the workshop's input, by name.
    files: Mapping[str, str]
    format: Literal["requirements", "pylock", "npm"]

    @property
    def lock_name(self) -> str:
        """Return the name under which the lock lies in the workshop."""
        return "pylock.toml" if self.format == "pylock" else "lock"


def recipe(deps: Dependencies) -> Recipe:
    """Return how to resolve and install what was declared."""
    if deps.kind == "node":
        package = next(f for f in deps.files if f.rsplit("/", 1)[-1] == "package.json")
        return Recipe("node", NODE, {"PACKAGE": package, "LOCKED": deps.lock or ""}, {}, "npm")
    declared, locked = "requirements", ""
    if deps.lock is not None:
        folder, _, name = deps.lock.rpartition("/")
        declared, locked = ("uv.lock", folder or ".") if name == "uv.lock" else ("pylock", deps.lock)
    indexes = " ".join(f"--index {url}" for url in deps.indexes)
    words = {"DECLARED": declared, "LOCKED": locked, "INDEXES": indexes, "UV": UV}
    files = {
        "requirements.txt": _lines(deps.requirements),
        "constraints.txt": _lines(deps.constraints),
        # A lock has the index's hashes; those that somebody wrote down have to hold as well. Extras have no place here.
        "hashes.txt": _lines([_EXTRAS.sub("", line, count=1) for line in deps.requirements if "--hash" in line]),
    }
    return Recipe("python", PYTHON, words, files, "pylock" if declared == "pylock" else "requirements")


def declaration_key(deps: Dependencies, digests: Mapping[str, str], image: str) -> str:
    """Return the name of all that bears on what a declaration is resolved to: itself, its files, Python, platform."""
    return _digest(
        {
            "kind": deps.kind,
            "requirements": deps.requirements,
            "constraints": deps.constraints,
            "indexes": deps.indexes,
            "lock": deps.lock and digests[deps.lock],
            "files": [digests[path] for path in deps.files],
            "image": image,
            "platform": platform.machine(),
        }
    )


def environment_key(lock: Lock, image_id: str) -> str:
    """Return the name of what is built from a lock for the bits of one image."""
    return _digest({"format": lock.format, "text": lock.text, "image": image_id, "platform": platform.machine()})[:32]


def needs_sources(exit_code: int, said: str) -> bool:
    """Say whether a builder failed only because it may not run code of the packages."""
    return exit_code == EXIT_NEEDS_SOURCES or (exit_code != 0 and any(words in said for words in _NO_WHEEL))


def last_words(said: str) -> str:
    """Return what a resolver or installer says went wrong, as one line."""
    lines = [_CODES.sub("", line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line]
    first = next((i for i, line in enumerate(lines) if _WORDS.match(line)), max(0, len(lines) - 3))
    text = " ".join(" ".join(re.sub(r"[\u00d7╰─▶├│]+", " ", line) for line in lines[first:]).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
