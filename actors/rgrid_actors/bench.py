"""What every attempt of a node works with: the outside things, the ids jobs run as, and threads for what blocks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from dataclasses import dataclass
from typing import TypeVar

from rgrid.store.ports import BlobStore, LogStore
from rgrid_actors.artifacts import Ids
from rgrid_actors.containers.port import Containers
from rgrid_actors.reporter import Reporter

T = TypeVar("T")


class InThread:
    """Runs blocking calls in the executor's own pool of threads: the loop's default has six on two cores."""

    def __init__(self, pool: Pool) -> None:
        """Keep the pool."""
        self._pool = pool

    async def __call__(self, act: Callable[[], T]) -> T:
        """Do it in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, act)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every attempt of a node works with."""

    containers: Containers
    blobs: BlobStore
    logs: LogStore
    reporter: Reporter
    ids: Ids
    in_thread: InThread
