"""The loop around the core: what an outage of the store, a fault or a lost order leads to."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rgrid.domain.ids import GridId, JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, JobSpec, NodeInfo
from rgrid.domain.resources import MIB, Resources
from rgrid.errors import Code, RGridError
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid_actors import scheduler as module
from rgrid_actors.config import GridConfig
from rgrid_actors.scheduler import Scheduler

NODE = NodeInfo(NodeName("n1"), Resources(4000, 4096 * MIB))


class Ledger:
    """A store that can be away, or break in a way nobody foresaw."""

    def __init__(self) -> None:
        self.term, self.away = 0, False
        self.faults: list[Exception] = []
        self.writes: list[cmd.Write] = []
        self.waiting: list[ev.JobSubmitted] = []

    def _answer(self) -> None:
        if self.away:
            raise RGridError(Code.DATABASE_UNREACHABLE)
        if self.faults:
            raise self.faults.pop()

    def begin_term(self, pid: int) -> int:
        self.term += 1
        return self.term

    def restore(self) -> list[Any]:
        return []

    def news(self, jobs: Sequence[JobId] | None = None, *, known: frozenset[JobId] = frozenset()) -> list[Any]:
        self._answer()
        return [job for job in self.waiting if job.job not in known]

    def commit(self, writes: Sequence[cmd.Write], *, term: int, now: object) -> None:
        self._answer()
        self.writes += writes

    def beat(self, *, term: int, heard: object) -> None: ...

    def prune(self, *, term: int, before: object, limit: int) -> int:
        return 0

    def orders(self, refs: Sequence[AttemptRef]) -> list[AttemptOrder]:
        return [AttemptOrder(ref, Owner("me"), "job", JobSpec(("true",), "image")) for ref in refs]


class Fleet:
    """Executors that hear nothing."""

    def __init__(self) -> None:
        self.started: list[AttemptRef] = []
        self.missed: set[NodeName] = set()

    async def watch(self, silent: frozenset[NodeName]) -> list[NodeName]:
        return []

    def start(self, node: NodeName, orders: Sequence[AttemptOrder]) -> None:
        self.started += [order.ref for order in orders]

    def stop(self, node: NodeName, ref: AttemptRef, *, now: bool) -> None: ...

    def discard(self, node: NodeName, ref: AttemptRef) -> None: ...

    def undelivered(self) -> frozenset[NodeName]:
        missed, self.missed = frozenset(self.missed), set()
        return missed


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK_SECONDS", "BEAT_SECONDS", "FAULT_PAUSE_SECONDS"):
        monkeypatch.setattr(module, name, 0.02)


async def until(what: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    while not what():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.005)


async def started(ledger: Ledger, fleet: Fleet) -> Scheduler:
    second = timedelta(seconds=1)
    config = GridConfig(GridId("g"), "0", Path("/none"), "", second * 0.3, second * 0, second * 0.05)
    made = Scheduler(config, ledger, fleet)
    await made.start()
    await made.register(NODE, "a", [])
    return made


def nodes_lost(ledger: Ledger) -> list[str]:
    return [w.info.name for w in ledger.writes if isinstance(w, cmd.RecordNode) and w.state == "lost"]


async def stop(scheduler: Scheduler) -> None:
    for task in scheduler._tasks:
        task.cancel()
    await asyncio.gather(*scheduler._tasks, return_exceptions=True)


async def test_an_outage_of_the_store_makes_no_node_look_silent(quick: None) -> None:
    ledger = Ledger()
    scheduler = await started(ledger, Fleet())
    ledger.away = True
    for _ in range(25):  # longer than the limit of silence
        assert await scheduler.heartbeat(NODE, "a")
        await asyncio.sleep(0.02)
    ledger.away = False
    job = ev.JobSubmitted(JobId("j1"), Owner("me"), 0, Resources(1000, MIB), module.datetime.now(module.UTC))
    ledger.waiting.append(job)
    await until(lambda: any(isinstance(w, cmd.AssignAttempt) for w in ledger.writes))
    assert nodes_lost(ledger) == []
    await until(lambda: nodes_lost(ledger) == ["n1"])  # now it really is silent
    await stop(scheduler)


async def test_a_fault_nobody_foresaw_is_survived(quick: None) -> None:
    ledger = Ledger()
    scheduler = await started(ledger, Fleet())
    ledger.faults.append(ZeroDivisionError("who would have thought"))
    await until(lambda: ledger.term == 2)
    assert not await scheduler.heartbeat(NODE, "a"), "a scheduler that started afresh asks for registration"
    await scheduler.register(NODE, "a", [])
    assert await scheduler.heartbeat(NODE, "a")
    await stop(scheduler)


async def test_a_node_that_missed_an_order_is_asked_to_register(quick: None) -> None:
    ledger, fleet = Ledger(), Fleet()
    scheduler = await started(ledger, fleet)
    fleet.missed.add(NODE.name)
    await until(lambda: NODE.name not in scheduler._registered)
    assert not await scheduler.heartbeat(NODE, "a")
    await scheduler.register(NODE, "a", [AttemptRef(JobId("x"), 1, Lease("1.1"))])
    assert await scheduler.heartbeat(NODE, "a")
    await stop(scheduler)


async def test_a_scheduler_that_cannot_start_afresh_ends_its_process(quick: None) -> None:
    ledger = Ledger()
    scheduler = await started(ledger, Fleet())
    ended = asyncio.Event()
    scheduler._deposed = ended.set

    def broken(_: int) -> int:
        raise ZeroDivisionError("again")

    ledger.begin_term = broken  # type: ignore[method-assign]
    ledger.faults.append(ZeroDivisionError("who would have thought"))
    async with asyncio.timeout(5):
        await ended.wait()
    await stop(scheduler)
