"""Which local files a script imports, found by reading it, never by running it.

A script that does not parse is not our error: it is sent as it is, and fails where it runs, with Python's own words.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_NODE_IMPORT = re.compile(
    r"""(?:require\s*\(\s*|import\s*\(\s*|\bfrom\s+|\bimport\s+)["'](\.{1,2}/[^"']*|\.{1,2})["']"""
)
_NODE_ENDINGS = (".js", ".mjs", ".cjs", ".json", ".node")
PYTHON_ENDINGS = frozenset({".py", ""})
NODE_ENDINGS = frozenset({".js", ".mjs", ".cjs"})


def local_imports(script: Path) -> Iterator[Path]:
    """Give the files and package folders that `script` needs from beside it."""
    if script.suffix in NODE_ENDINGS:
        yield from _node(script)
    elif script.suffix == ".py":
        yield from _python(script)


def _python(script: Path) -> Iterator[Path]:
    """Follow imports from the script's own folder: that is what Python looks through first."""
    root = script.parent
    pending, seen = [script], {script}
    while pending:
        file = pending.pop()
        for found in _targets(file, root):
            if found in seen:
                continue
            seen.add(found)
            yield found
            # A package goes whole, so everything in it may import: all of it is read.
            sources = sorted(found.rglob("*.py")) if found.is_dir() else [found]
            new = [source for source in sources if source == found or source not in seen]
            seen.update(new)
            pending.extend(new)


def _targets(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _resolve(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = root
            if node.level:
                base = file.parent
                for _ in range(node.level - 1):
                    base = base.parent
                if not base.is_relative_to(root):
                    continue
            parts = node.module.split(".") if node.module else []
            yield from _resolve(base, parts)
            for alias in node.names:
                yield from _resolve(base, [*parts, alias.name])


def _resolve(base: Path, parts: list[str]) -> Iterator[Path]:
    """Give the module file, or the outermost regular package, that a dotted name stands for below `base`."""
    here = base
    for part in parts:
        folder, module = here / part, here / f"{part}.py"
        if (folder / "__init__.py").is_file():
            yield folder
            return
        if module.is_file():
            yield module
            return
        if not folder.is_dir():
            return
        here = folder  # a namespace package: only what is named in it is imported


def _node(script: Path) -> Iterator[Path]:
    package = script.parent / "package.json"
    if package.is_file():
        yield package
    pending, seen = [script], {script}
    while pending:
        file = pending.pop()
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for name in _NODE_IMPORT.findall(text):
            target = file.parent / name
            tries = [target, *(target.with_name(target.name + ending) for ending in _NODE_ENDINGS)]
            tries += [target / f"index{ending}" for ending in _NODE_ENDINGS]
            for found in tries:
                if found.is_file():
                    resolved = Path(_normal(found))
                    if resolved not in seen:
                        seen.add(resolved)
                        pending.append(resolved)
                        yield resolved
                    break


def _normal(path: Path) -> str:
    import os

    return os.path.normpath(path)
