"""The block of a script that says what it needs: PEP 723."""

import re
import tomllib
from typing import Any

from rgrid.errors import Code, RGridError
from rgrid_cli.dependencies.found import Found
from rgrid_cli.dependencies.requirements import check_requirement

_BLOCK = re.compile(
    r"^# /// (?P<type>[a-zA-Z0-9-]+)[ \t]*\r?\n(?P<content>(?:^#(?:| .*)\r?\n)+?)^# ///[ \t]*\r?$", re.MULTILINE
)
_OPENED = re.compile(r"^# /// script[ \t]*\r?$", re.MULTILINE)
SOURCE = "PEP 723 block"


def inline_block(text: str, name: str) -> Found | None:
    """Return what the script's block declares, or None where it has none; raise `dependencies-invalid`."""
    opened = len(_OPENED.findall(text))
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if opened == 0:
        return None
    if opened > 1:
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{name} has {opened} PEP 723 blocks; one is allowed")
    if not blocks:
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{name}: the PEP 723 block is not closed by a line `# ///`")
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines())
    try:
        said: dict[str, Any] = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{name}: the PEP 723 block is no TOML: {error}") from error
    wanted, python = said.get("dependencies", []), said.get("requires-python")
    if not isinstance(wanted, list) or not all(isinstance(line, str) for line in wanted):
        raise RGridError(
            Code.DEPENDENCIES_INVALID, f"{name}: `dependencies` in the PEP 723 block is no list of strings"
        )
    if python is not None and not isinstance(python, str):
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{name}: `requires-python` in the PEP 723 block is no string")
    for line in wanted:
        check_requirement(line, f"{name}, PEP 723 block")
    return Found(SOURCE, requirements=wanted, requires_python=python, indexes=uv_indexes(said, name))


def uv_indexes(said: dict[str, Any], name: str) -> list[str]:
    """Return the index addresses in a `[tool.uv]` table, in the order in which they are asked."""
    table = said.get("tool", {}).get("uv", {}) if isinstance(said.get("tool", {}), dict) else {}
    found: list[Any] = [entry.get("url") for entry in table.get("index", []) if isinstance(entry, dict)]
    found += table.get("extra-index-url", [])
    found += [table["index-url"]] if "index-url" in table else []
    if not all(isinstance(url, str) for url in found):
        raise RGridError(Code.DEPENDENCIES_INVALID, f"{name}: an index in [tool.uv] has no address")
    return found
