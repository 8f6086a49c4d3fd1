"""Single flight: once for all who wait, told to all, given up when nobody waits."""

import asyncio

import pytest

from rgrid_actors.flights import Flights, Tell


async def test_fifty_who_ask_at_once_are_served_by_one() -> None:
    flights: Flights[int] = Flights()
    begun = 0
    go = asyncio.Event()

    async def work(tell: Tell) -> int:
        nonlocal begun
        begun += 1
        tell("half way")
        await go.wait()
        return 7

    heard: list[str] = []
    waiting = [asyncio.create_task(flights.join("k", work, heard.append)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*waiting) == [7] * 50
    assert (begun, heard) == (1, ["half way"] * 50)
    assert await flights.join("k", work, heard.append) == 7
    assert begun == 2, "what was done is not kept here"


async def test_whoever_leaves_does_not_take_it_from_the_others() -> None:
    flights: Flights[str] = Flights()
    go = asyncio.Event()

    async def work(_: Tell) -> str:
        await go.wait()
        return "done"

    first = asyncio.create_task(flights.join("k", work, lambda _: None))
    second = asyncio.create_task(flights.join("k", work, lambda _: None))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go.set()
    assert await second == "done"


async def test_what_nobody_waits_for_is_given_up() -> None:
    flights: Flights[None] = Flights()
    ended = asyncio.Event()

    async def work(_: Tell) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    only = asyncio.create_task(flights.join("k", work, lambda _: None))
    await asyncio.sleep(0.01)
    only.cancel()
    async with asyncio.timeout(1):
        await ended.wait()


async def test_what_it_raises_all_hear() -> None:
    flights: Flights[None] = Flights()

    async def work(_: Tell) -> None:
        raise ValueError("no")

    found = await asyncio.gather(*(flights.join("k", work, lambda _: None) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["no"] * 3
    with pytest.raises(ValueError, match="no"):
        await flights.join("k", work, lambda _: None)
