"""What stands beside a script: a lock, `pyproject.toml`, `requirements.txt`, `package.json`."""

import json
import tomllib
from pathlib import Path
from typing import Any

from rgrid.errors import Code, RGridError
from rgrid_cli.dependencies.found import Found
from rgrid_cli.dependencies.inline import uv_indexes
from rgrid_cli.dependencies.requirements import check_requirement, read_requirements


def python_project(folder: Path) -> Found | None:
    """Return what the files beside a Python script declare, or None where they declare nothing."""
    return _lock(folder) or _declared(folder)


def _lock(folder: Path) -> Found | None:
    pyproject = folder / "pyproject.toml"
    if (lock := folder / "uv.lock").is_file():
        if not pyproject.is_file():
            raise RGridError(Code.DEPENDENCIES_INVALID, "uv.lock has no pyproject.toml beside it, which it belongs to")
        return Found("uv.lock", lock=lock, files=[pyproject], requires_python=_read(pyproject).requires_python)
    if (lock := folder / "pylock.toml").is_file():
        return Found("pylock.toml", lock=lock)
    return None


def _declared(folder: Path) -> Found | None:
    pyproject, requirements = folder / "pyproject.toml", folder / "requirements.txt"
    found = _read(pyproject) if pyproject.is_file() else None
    if not requirements.is_file():
        return found if found is not None and not found.empty else None
    pins = read_requirements(requirements, project=_name(pyproject))
    if found is None or found.empty:
        return pins if not pins.empty else None
    shift = len(found.requirements)
    return Found(
        "pyproject.toml and requirements.txt",
        requirements=[*found.requirements, *pins.requirements],
        constraints=pins.constraints,
        indexes=[*found.indexes, *pins.indexes],
        requires_python=found.requires_python,
        local={place + shift: file for place, file in pins.local.items()},
        notes=[*found.notes, *pins.notes],
    )


def _read(pyproject: Path) -> Found:
    said = _toml(pyproject)
    project = said.get("project", {})
    wanted = project.get("dependencies", []) if isinstance(project, dict) else []
    if not isinstance(wanted, list) or not all(isinstance(line, str) for line in wanted):
        raise RGridError(Code.DEPENDENCIES_INVALID, "pyproject.toml: project.dependencies is no list of strings")
    for line in wanted:
        check_requirement(line, "pyproject.toml")
    found = Found("pyproject.toml", requirements=list(wanted), indexes=uv_indexes(said, "pyproject.toml"))
    found.requires_python = project.get("requires-python") if isinstance(project, dict) else None
    if isinstance(project, dict) and "dependencies" in project.get("dynamic", []):
        found.notes.append("pyproject.toml: its dependencies are dynamic; declare them there, or in requirements.txt")
    return found


def _name(pyproject: Path) -> str | None:
    project = _toml(pyproject).get("project", {}) if pyproject.is_file() else {}
    name = project.get("name") if isinstance(project, dict) else None
    return name if isinstance(name, str) else None


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{file.name} is no TOML: {error}") from error
    except OSError as error:
        raise RGridError(Code.FILE_NOT_FOUND, f"{file}: {error.strerror}") from error


def node_project(folder: Path) -> Found | None:
    """Return what `package.json` beside a Node script declares, with its lock where there is one."""
    package = folder / "package.json"
    if not package.is_file():
        return None
    try:
        said = json.loads(package.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RGridError(Code.DEPENDENCIES_INVALID, f"package.json is no JSON: {error}") from error
    if not isinstance(said, dict) or not said.get("dependencies"):
        return None
    lock = next((f for name in ("package-lock.json", "npm-shrinkwrap.json") if (f := folder / name).is_file()), None)
    source = f"package.json and {lock.name}" if lock else "package.json"
    return Found(source, kind="node", lock=lock, files=[package])
