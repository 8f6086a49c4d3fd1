"""How the command line speaks: data to stdout, words to stderr, JSON when asked, tables for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from rich.console import Console


@lru_cache(maxsize=1)
def err() -> "Console":
    """Return the console for words."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(words: str) -> None:
    """Say a line on stderr."""
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def data(text: str) -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(text + "\n")


def as_json(value: Any) -> None:
    """Write a model, a list of models or plain values as JSON to stdout."""
    data(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Write rows as aligned columns; with nothing to show, say so on stderr."""
    found = [[plain(str(cell)) for cell in row] for row in rows]
    if not found:
        say(empty)
        return
    widths = [max(len(row[i]) for row in (columns, *found)) for i in range(len(columns))]
    bold, normal = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    for number, row in enumerate((columns, *found)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        data(f"{bold}{line}{normal}" if number == 0 else line)


def plain(text: str) -> str:
    """Return text that others wrote so that it cannot steer a terminal, nor pretend to be another line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def ago(at: datetime | None) -> str:
    """Say how long ago something was."""
    if at is None:
        return "-"
    return f"{span((datetime.now(UTC) - at).total_seconds())} ago"


def span(seconds: float | None) -> str:
    """Say a length of time in few characters."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
