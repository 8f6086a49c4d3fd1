"""What a script imports that neither it nor Python brings along, and which distributions those modules are in.

The last resort, where nothing is declared. What is not well known is reported, never guessed: something of that name
may well exist on an index, made by somebody who waits for just this.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rgrid.import_names import distribution
from rgrid_cli.dependencies.found import Found

_GUARDS = {"ImportError", "ModuleNotFoundError", "Exception"}


def scan_imports(script: Path, local: Sequence[Path], python: str) -> Found:
    """Return what the script and its local modules import from distributions, for Python `python` (like `3.11`)."""
    standard = _standard_library(python)
    own = {path.stem if path.suffix == ".py" else path.name for path in (script, *script.parent.iterdir())}
    found, unknown = Found("imports"), set()
    for file in _files(script, local):
        for name, optional in _imports(file):
            top = name.partition(".")[0]
            if top in standard or top in own:
                continue
            known = distribution(name)
            if known is not None and known not in found.requirements:
                found.requirements.append(known)
            elif known is None and not optional:
                unknown.add(_shown(name))
    found.requirements.sort()
    found.source = f"imports ({', '.join(found.requirements)})"
    if unknown:
        what = ", ".join(sorted(unknown))
        found.notes.append(f"nothing well known provides {what}; declare it in a PEP 723 block or requirements.txt")
    return found


def _files(script: Path, local: Sequence[Path]) -> Iterator[Path]:
    yield script
    for path in local:
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Give what a file imports, and whether it can do without."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    yield from _walk(tree, optional=False)


def _walk(node: ast.AST, *, optional: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for other in node.orelse:
            yield from _walk(other, optional=optional)
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, optional) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        # `from google.cloud import storage`: which of the two is the module only the distribution knows.
        names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"]
        yield from ((name, optional) for name in names or [node.module])
    guarded = isinstance(node, ast.Try) and any(_catches_import(handler) for handler in node.handlers)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, optional=optional or guarded)


def _catches_import(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(name is None or (isinstance(name, ast.Name) and name.id in _GUARDS) for name in names)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _standard_library(python: str) -> frozenset[str]:
    from stdlib_list import short_versions, stdlib_list

    if python in short_versions:
        return frozenset(name.partition(".")[0] for name in stdlib_list(python)) | {"__future__", "__main__"}
    return frozenset(sys.stdlib_module_names)


def _shown(name: str) -> str:
    return name.partition(".")[0]
