"""What is never sent with a folder: version control, caches, and what `.gitignore` and `.rgridignore` name.

Each such file counts for its own folder and below, a deeper one wins over a higher one, as git has it.
"""

from functools import cache
from pathlib import Path

import pathspec

ALWAYS = frozenset({".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules", ".mypy_cache", ".ruff_cache"})
FILES = (".gitignore", ".rgridignore")


class Ignores:
    """The ignore files between `root` and whatever is asked about."""

    def __init__(self, root: Path) -> None:
        """Say where to begin to look for them."""
        self._root = root

    def ignored(self, path: Path, *, is_folder: bool) -> bool:
        """Say whether a path is left out. Ask about its parents first: nothing comes back from an ignored folder."""
        if path.name in ALWAYS:
            return True
        verdict = False
        folders = [self._root, *reversed([p for p in path.parents if p != self._root and p.is_relative_to(self._root)])]
        for folder in folders:
            spec = _spec(folder)
            if spec is None or not path.is_relative_to(folder):
                continue
            name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            said = spec.check_file(name).include
            verdict = verdict if said is None else said
        return verdict


@cache
def _spec(folder: Path) -> pathspec.GitIgnoreSpec | None:
    lines: list[str] = []
    for name in FILES:
        file = folder / name
        if file.is_file():
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return pathspec.GitIgnoreSpec.from_lines(lines) if lines else None
