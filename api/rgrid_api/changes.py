"""Wakes requests that wait: one connection hears Postgres's notifications for all of them.

A waiter first subscribes and then looks, so that nothing can happen unseen between the two.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rgrid.store import channels
from rgrid.store.listen import Listener


class Changes:
    """Who waits for which job."""

    def __init__(self, url: str) -> None:
        """Name the database; `start` connects."""
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listener = Listener(
            url,
            [channels.CHANGED, channels.LOGS],
            on_notify=lambda _channel, payload: self._from_thread(payload),
            on_reconnect=lambda: self._from_thread(""),
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to listen; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.start()

    def stop(self) -> None:
        """Stop to listen, and wake everybody: there is nothing to wait for any more."""
        self._loop = None
        self._wake("")
        self._listener.stop()

    @contextmanager
    def of(self, job: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something about a job changed."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]

    def _from_thread(self, payload: str) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake, payload)

    def _wake(self, payload: str) -> None:
        """Wake those who wait for these jobs; an empty payload means it may be any."""
        for job in payload.split(",") if payload else list(self._waiting):
            for event in self._waiting.get(job, ()):
                event.set()


async def changed(event: asyncio.Event, seconds: float) -> bool:
    """Wait for a change, and be ready for the next; False when there was none in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
