"""What an executor needs of a container engine. Everything blocks and is called from threads.

All raise `RGridError`: `docker-unreachable` while the engine is away, `not-found` for a container that is gone, and
`internal` with the engine's own words for what it will not do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from rgrid.domain.job import AttemptOrder, AttemptRef
from rgrid.store.ports import Stream
from rgrid_actors.containers.builder import Bounds, BuilderOrder, Built


class ImageUnavailableError(Exception):
    """An image could not be had; the message says which and why in one line."""


@dataclass(frozen=True, slots=True)
class Found:
    """A container of this grid and node, found on the engine."""

    id: str
    ref: AttemptRef


@dataclass(frozen=True, slots=True)
class Exit:
    """What the engine says of a container that is not running any more."""

    exit_code: int | None
    oom_killed: bool
    started_at: datetime | None
    finished_at: datetime | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container's cgroup says while it lives."""

    peak_memory_bytes: int | None
    cpu_seconds: float | None
    #: Processes the kernel killed in it for want of memory.
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Bytes of one stream, as the engine kept them, and where its log is read to after them."""

    stream: Stream
    data: bytes
    cursor: str


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something the engine saw happen to a container of this grid."""

    kind: Literal["oom", "die"]
    container: str
    ref: AttemptRef
    #: Seconds since the epoch, by the engine's clock.
    at: float


class Containers(Protocol):
    """One engine's containers of one grid and node."""

    def ping(self) -> str:
        """Return the engine's version."""
        ...

    def find_image(self, image: str) -> str | None:
        """Return the digest of an image's bits, or None where it is absent. Raises `ImageUnavailableError`."""
        ...

    def pull_image(self, image: str, progress: Callable[[str], None], *, deadline: float) -> str:
        """Pull an image and return the digest of its bits; `deadline` is on `time.monotonic()`.

        Raises `ImageUnavailableError`.
        """
        ...

    def run_builder(self, order: BuilderOrder, bounds: Bounds, tell: Callable[[str], None]) -> Built:
        """Run a builder to its end and leave nothing of it; it is ended when one of its limits is passed."""
        ...

    def remove_builders(self) -> None:
        """Remove what builders an earlier executor left."""
        ...

    def create(
        self,
        order: AttemptOrder,
        *,
        workspace: Path,
        uid: int,
        gid: int,
        image_id: str,
        environment: tuple[Path, str] | None = None,
    ) -> str:
        """Make an attempt's container and return its id; one that was made before is found again by its name."""
        ...

    def start(self, container: str) -> None:
        """Start it; one that was started before, and may have ended since, is left as it is.

        Raises `image-unavailable` when the image has nothing that could run the command.
        """
        ...

    def signal(self, container: str, name: str) -> None:
        """Send `SIGTERM` or `SIGKILL`; one that has ended already takes no harm."""
        ...

    def inspect(self, container: str) -> Exit | None:
        """Return how it ended, or None while it runs or has not been started."""
        ...

    def usage(self, container: str) -> Usage | None:
        """Return its figures in well under a millisecond, or None when they cannot be had here."""
        ...

    def logs(self, container: str, *, cursor: str, follow: bool = True) -> Iterator[LogEntry]:
        """Give what it wrote, from behind `cursor` on; with `follow`, also what it writes until it has ended.

        An engine may end a following early: only a look without `follow` at a container that has ended gives all.
        """
        ...

    def find(self) -> list[Found]:
        """Return all containers of this grid and node, whatever their state."""
        ...

    def remove(self, container: str) -> None:
        """Remove it with its volumes, running or not; one that is gone takes no harm."""
        ...

    def events(self, *, since: float) -> Iterator[EngineEvent]:
        """Give what happens, from `since` (seconds since the epoch) on, for as long as the engine answers."""
        ...
