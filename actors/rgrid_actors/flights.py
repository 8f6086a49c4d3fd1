"""Single flight: work that many wait for is done once, and whoever waits is told how it comes along.

Lives on the event loop, so that waiting costs no thread. The work is given up when nobody waits for it any more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    listeners: list[Tell] = field(default_factory=list)
    last: str = ""


class Flights(Generic[T]):
    """Pieces of work under way, by what they make."""

    def __init__(self) -> None:
        """Have none under way."""
        self._flights: dict[str, _Flight[T]] = {}

    async def join(self, key: str, work: Callable[[Tell], Coroutine[None, None, T]], tell: Tell) -> T:
        """Return what the work under way for `key` makes, beginning it where there is none; raises what it raises.

        `work` is given a function to tell progress with, for the event loop only; all who wait hear it.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._begin(key, work)
        elif flight.last:
            tell(flight.last)
        flight.listeners.append(tell)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.listeners.remove(tell)
            if not flight.listeners and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()

    def _begin(self, key: str, work: Callable[[Tell], Coroutine[None, None, T]]) -> _Flight[T]:
        def all_hear(line: str) -> None:
            flight.last = line
            for tell in list(flight.listeners):
                tell(line)

        flight = self._flights[key] = _Flight(asyncio.create_task(work(all_hear)))
        flight.task.add_done_callback(lambda _: self._landed(key, flight))
        return flight

    def _landed(self, key: str, flight: _Flight[T]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # nobody may be there any more to hear of it

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
