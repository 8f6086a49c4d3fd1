"""Delivers an executor's reports to the scheduler, in order, again and again until each is acknowledged.

One batch is under way at a time. The scheduler may be dead, restarting or waiting for Postgres: nothing is given up.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from rgrid.domain.job import AttemptRef, NodeInfo
from rgrid.scheduling.events import Report

log = logging.getLogger(__name__)

MAX_BATCH = 500


class SchedulerLink(Protocol):
    """The scheduler, as an executor needs it. Every call may fail, and may have been carried out when it did."""

    async def register(self, info: NodeInfo, incarnation: str, held: Sequence[AttemptRef]) -> None:
        """Tell the scheduler what this node holds."""
        ...

    async def heartbeat(self, info: NodeInfo, incarnation: str) -> bool:
        """Tell the scheduler that this node lives; False means: register."""
        ...

    async def report(self, reports: Sequence[Report]) -> None:
        """Report; returning is the acknowledgement."""
        ...


class Reporter:
    """The one way out for reports of a node."""

    def __init__(self, link: SchedulerLink) -> None:
        """Keep the link; `run` delivers."""
        self._link = link
        self._waiting: list[tuple[Report, asyncio.Future[None]]] = []
        self._filled = asyncio.Event()

    def send(self, report: Report) -> asyncio.Future[None]:
        """Queue a report; the future is done when the scheduler has committed it."""
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, acknowledged))
        self._filled.set()
        return acknowledged

    async def run(self) -> None:
        """Deliver for ever."""
        pause = 0.1
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                batch = self._waiting[:MAX_BATCH]
                try:
                    await self._link.report([report for report, _ in batch])
                except Exception as error:  # noqa: BLE001  # whatever it was, the report is still owed
                    log.warning("%d reports not delivered, trying again in %.1f s: %s", len(batch), pause, error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
                    continue
                pause = 0.1
                del self._waiting[: len(batch)]
                for _, acknowledged in batch:
                    if not acknowledged.done():
                        acknowledged.set_result(None)
