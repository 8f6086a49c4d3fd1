"""Threads for what blocks, off the actor's event loop, and patience with what passes by itself."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from typing import TypeVar

from rgrid.errors import Code, RGridError

T = TypeVar("T")
log = logging.getLogger(__name__)
#: What passes by itself, once somebody has started it again.
AWAY = frozenset({Code.DOCKER_UNREACHABLE, Code.DATABASE_UNREACHABLE})


class InThread:
    """Runs blocking calls in the executor's own pool of threads: the loop's default has six on two cores."""

    def __init__(self, pool: Pool) -> None:
        """Keep the pool."""
        self._pool = pool
        #: How many wait, right now, for an engine or a store that is away.
        self.held_up = 0

    async def __call__(self, act: Callable[[], T]) -> T:
        """Do it in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, act)

    async def patiently(self, act: Callable[[], T]) -> T:
        """Do it in a thread, again and again while the engine or the store is away: that is no fault of the job's."""
        pause, held_up = 0.2, 0
        try:
            while True:
                try:
                    return await self(act)
                except RGridError as error:
                    if error.code not in AWAY:
                        raise
                    log.warning("trying again in %.1f s: %s", pause, error)
                self.held_up, held_up = self.held_up + 1 - held_up, 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
        finally:
            self.held_up -= held_up
