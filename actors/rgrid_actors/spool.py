"""An attempt's folder on its node: everything a restarted executor needs to go on where the last one died.

`order.json` is written before anything else happens, `ending.json` once the end is proven, and the folder is removed
only after the scheduler has acknowledged that end. Files are replaced whole, so that none is ever found half written.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from rgrid.domain.job import AttemptOrder, AttemptRef, Ending, Timings

T = TypeVar("T")
log = logging.getLogger(__name__)

#: A thread that still lays files out stops at the next one; so often and so long its last one is waited for.
_REMOVALS = 20
_REMOVAL_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt has come, as far as it cannot be read off its container."""

    container: str | None = None
    image_digest: str | None = None
    #: Name of the environment it lives in, if it needs one.
    environment: str | None = None
    started_at: datetime | None = None
    #: Which life of the machine it was started in; a container does not outlive that.
    boot: str | None = None
    timings: Timings = field(default_factory=Timings)
    #: Inputs as they were laid out (path: size and mtime), to tell what the script changed.
    laid_out: dict[str, tuple[int, int]] = field(default_factory=dict)
    stopped_by: str | None = None
    stopped_at: datetime | None = None


_ORDER = TypeAdapter(AttemptOrder)
_PROGRESS = TypeAdapter(Progress)
_ENDING = TypeAdapter(Ending)


class Spool:
    """One attempt's folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.folder = folder
        self.workspace = folder / "workspace"
        self._progress: Progress | None = None

    def begin(self, order: AttemptOrder) -> None:
        """Write the order down."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(self.folder / "order.json", _ORDER.dump_json(order))

    def order(self) -> AttemptOrder | None:
        """Return the order, or None when the folder never came so far."""
        return _read(self.folder / "order.json", _ORDER)

    @property
    def progress(self) -> Progress:
        """How far it came."""
        if self._progress is None:
            self._progress = _read(self.folder / "progress.json", _PROGRESS) or Progress()
        return self._progress

    def note(self, **changes: object) -> Progress:
        """Write down that it came further."""
        self._progress = replace(self.progress, **changes)  # type: ignore[arg-type]  # names are Progress's own
        _replace(self.folder / "progress.json", _PROGRESS.dump_json(self._progress))
        return self._progress

    def end(self, ending: Ending) -> None:
        """Write the end down; from here on only its acknowledgement is missing."""
        _replace(self.folder / "ending.json", _ENDING.dump_json(ending))

    def ending(self) -> Ending | None:
        """Return the proven end, or None while there is none."""
        return _read(self.folder / "ending.json", _ENDING)

    def remove(self) -> None:
        """Leave nothing behind, whatever rights a script gave its folders and whoever still writes for a moment."""
        for _ in range(_REMOVALS):
            shutil.rmtree(self.folder, onerror=_take_rights)
            if not self.folder.exists():
                return
            time.sleep(_REMOVAL_PAUSE_SECONDS)
        log.warning("%s could not be removed; it is tried again with the next sweep", self.folder)


class Spools:
    """All attempts' folders of a node."""

    def __init__(self, folder: Path) -> None:
        """Name the folder they are in."""
        self.folder = folder

    def of(self, ref: AttemptRef) -> Spool:
        """Return the folder of an attempt; the lease keeps an old one of the same number apart."""
        return Spool(self.folder / f"{ref.job}.{ref.number}.{ref.lease}")

    def all(self) -> Iterator[Spool]:
        """Give every folder there is, in the order of their names."""
        if self.folder.is_dir():
            for entry in sorted(self.folder.iterdir()):
                yield Spool(entry)


def boot_id() -> str:
    """Return what tells this life of the machine from the one before it; empty where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _take_rights(_act: Callable[..., object], path: str, _error: object) -> None:
    """Give ourselves the rights that were missing, for the next round."""
    for folder in (Path(path).parent, Path(path)):
        with suppress(OSError):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o700)


def _replace(path: Path, data: bytes) -> None:
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _read(path: Path, adapter: TypeAdapter[T]) -> T | None:
    try:
        return adapter.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
