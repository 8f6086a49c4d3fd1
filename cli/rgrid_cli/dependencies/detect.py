"""Finds what a script needs, wherever it is declared, which runtime that means, and says so in one line."""

from collections.abc import Callable
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from rgrid.errors import Code, RGridError
from rgrid.runtimes import DEFAULT, RUNTIMES, Runtime, find_runtime, runtime_for
from rgrid_cli.dependencies.found import Found
from rgrid_cli.dependencies.inline import inline_block
from rgrid_cli.dependencies.project import node_project, python_project
from rgrid_cli.dependencies.requirements import read_requirements
from rgrid_cli.dependencies.scan import scan_imports
from rgrid_cli.imports import local_imports


def detect(
    script: Path, *, runtime: str | None, requirements: Path | None = None, wanted: bool = True
) -> tuple[Runtime, Found | None]:
    """Return the runtime that is meant and what the script needs; None where nobody `wanted` to know.

    A runtime that is not named is chosen by the script's ending, and by the Python that the script or its project says
    it requires. Raises `dependencies-invalid` where what is declared makes no sense.
    """
    chosen = find_runtime(runtime) if runtime is not None else runtime_for(str(script))
    if chosen.family == "node":
        return chosen, node_project(script.parent) if wanted else None
    if chosen.family != "python":
        return chosen, None
    found = _declared(script, requirements)
    if runtime is None and found is not None and found.requires_python is not None:
        chosen = _python_for(found.requires_python, script.name)
    if not wanted:
        return chosen, None
    return chosen, found or scan_imports(script, list(local_imports(script)), chosen.version)


def report(found: Found | None, say: Callable[[str], None]) -> None:
    """Say what was found, and what of it is left out."""
    if found is None:
        return
    if not found.empty:
        say(found.line())
    for note in found.notes:
        say(f"note: {note}")


def _declared(script: Path, requirements: Path | None) -> Found | None:
    block = inline_block(script.read_text(encoding="utf-8", errors="replace"), script.name)
    if block is not None:
        if requirements is not None:
            block.notes.append(f"{requirements} is not used: the script's own PEP 723 block says what it needs")
        return block
    return read_requirements(requirements) if requirements is not None else python_project(script.parent)


def _python_for(requires: str, where: str) -> Runtime:
    """Return the default Python if it fits, else the newest that does."""
    try:
        fits = SpecifierSet(requires)
    except InvalidSpecifier:
        raise RGridError(
            Code.DEPENDENCIES_INVALID, f"{where}: requires-python {requires!r} is not a version specifier"
        ) from None
    default = find_runtime(DEFAULT)
    pythons = [r for r in RUNTIMES if r.family == "python" and r is not default]
    for candidate in (default, *reversed(pythons)):
        # Of a minor version the grid has some patch: a high one stands for it, so that `>=3.11.4` is no obstacle.
        if fits.contains(candidate.version) or fits.contains(f"{candidate.version}.99"):
            return candidate
    known = ", ".join(r.version for r in pythons)
    raise RGridError(Code.RUNTIME_UNKNOWN, f"{where} requires Python {requires}; there are: {known}")
