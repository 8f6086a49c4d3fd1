"""The scheduler: a loop around the pure core. One at a time, in one place, and the only writer of a job's life.

Each turn of the loop takes in everything that has happened, asks the core what to do, commits all writes of the turn
in one transaction, and only then lets orders out and acknowledges reports. So whatever an executor or a user was told
has been written before. News from the gateways is read inside the same loop, between commits, so that what is read
never contradicts what is remembered.

Died and restarted, it begins a new term (which locks out a predecessor that is not quite dead), reads live jobs and
nodes, and hears from the executors what they hold; the differences are ordinary events.

It refuses to know Docker, HTTP and how Ray finds a node: `Fleet` does that.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar, get_args

from rgrid.domain.ids import JobId, NodeName
from rgrid.domain.job import AttemptOrder, AttemptRef, NodeInfo
from rgrid.errors import RGridError
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid.scheduling.cluster import Cluster
from rgrid.scheduling.reactor import place, react
from rgrid.store.ports import DeposedError, Ledger, StaleWriteError
from rgrid_actors.config import GridConfig

log = logging.getLogger(__name__)
T = TypeVar("T")

#: How much one turn of the loop takes in at most.
MAX_BATCH = 2000
BEAT_SECONDS = 2.0
TICK_SECONDS = 1.0
#: A tick so far from its time says that the clock was set, or that this process stood still (stopped, suspended,
#: starved). It says nothing of the nodes.
SKIP_SECONDS = 5.0
#: After a fault nobody foresaw, so long until the scheduler starts afresh.
FAULT_PAUSE_SECONDS = 1.0
PRUNE_SECONDS = 3600.0
PRUNE_AT_ONCE = 500
_WRITES = get_args(cmd.Write)


class Fleet(Protocol):
    """The executors, as the scheduler needs them. Sending never waits and never fails: a lost order is sent again
    when its executor registers, which a node that is `undelivered` is asked to do."""

    async def watch(self, silent: frozenset[NodeName]) -> list[NodeName]:
        """See that every live node has an executor, looking hard at the `silent` ones; return nodes that are dead."""
        ...

    def start(self, node: NodeName, orders: Sequence[AttemptOrder]) -> None:
        """Send orders to run attempts."""
        ...

    def stop(self, node: NodeName, ref: AttemptRef, *, now: bool) -> None:
        """Send an order to stop an attempt."""
        ...

    def discard(self, node: NodeName, ref: AttemptRef) -> None:
        """Send an order to forget an attempt."""
        ...

    def undelivered(self) -> frozenset[NodeName]:
        """Return the nodes that an order may not have reached since this was last asked."""
        ...


@dataclass(slots=True)
class _Inbox:
    """What came in since the last turn."""

    events: list[tuple[ev.Event, asyncio.Future[None] | None]] = field(default_factory=list)
    #: Nodes that were heard. Taken in before time passes, so that no outage of ours makes a node look silent.
    beats: dict[NodeName, NodeInfo] = field(default_factory=dict)
    ticked: bool = False
    #: Jobs that gateways named; None once everything is to be looked at.
    news: set[JobId] | None = field(default_factory=set)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class Scheduler:
    """The scheduler actor's plain class."""

    def __init__(self, config: GridConfig, ledger: Ledger, fleet: Fleet) -> None:
        """Keep what is given; `start` begins."""
        self._config, self._ledger, self._fleet = config, ledger, fleet
        self._inbox = _Inbox()
        self._cluster: Cluster | None = None
        #: Which incarnation of each node's executor has registered with this scheduler.
        self._registered: dict[NodeName, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._deposed: Callable[[], None] = lambda: os._exit(1)

    async def start(self) -> None:
        """Begin a term, restore what is stored, and go to work."""
        self._loop = asyncio.get_running_loop()
        self._ticked_at = datetime.now(UTC)
        await self._restore()
        work = asyncio.create_task(self._work(), name="work")
        # Without it the process only looks alive: it ends, and Ray starts another.
        work.add_done_callback(lambda task: None if task.cancelled() else self._deposed())
        self._tasks = [
            work,
            asyncio.create_task(self._every(TICK_SECONDS, self._tick), name="tick"),
            asyncio.create_task(self._every(BEAT_SECONDS, self._beat), name="beat"),
            asyncio.create_task(self._every(BEAT_SECONDS, self._watch), name="watch"),
            asyncio.create_task(self._every(PRUNE_SECONDS, self._prune), name="prune"),
            asyncio.create_task(self._every(self._config.poll_interval.total_seconds(), self._poll), name="poll"),
        ]

    # -- what others call ---------------------------------------------------------------------------------------------

    async def register(self, info: NodeInfo, incarnation: str, held: Sequence[AttemptRef]) -> None:
        """Take in an executor with what it holds; returns when that is written."""
        self._registered[info.name] = incarnation
        await self._take_in([ev.NodeRegistered(info, tuple(held))])

    async def heartbeat(self, info: NodeInfo, incarnation: str) -> bool:
        """Hear that an executor lives; False asks it to register."""
        node = self._cluster.nodes.get(info.name) if self._cluster else None
        if node is None or node.state == "lost" or self._registered.get(info.name) != incarnation:
            return False
        self._inbox.beats[info.name] = info
        return True

    async def report(self, reports: Sequence[ev.Report]) -> None:
        """Take in what executors have to say; returning is the acknowledgement, and comes after the commit."""
        await self._take_in(reports)

    async def status(self) -> dict[str, object]:
        """Say how the grid stands, for whoever brings it up."""
        nodes = self._cluster.nodes if self._cluster else {}
        return {
            "scheduler_pid": os.getpid(),
            "version": self._config.version,
            "term": self._cluster.term if self._cluster else 0,
            "nodes": {name: node.state for name, node in nodes.items()},
        }

    def told(self, payload: str) -> None:
        """Note, from any thread, that gateways named a job (or, with an empty payload, that everything may be new)."""
        self._loop.call_soon_threadsafe(self._note_news, payload)

    def __repr__(self) -> str:
        """Show which scheduler this is in the Ray dashboard, which asks once, when the actor is made."""
        term = "starting" if self._cluster is None else f"term {self._cluster.term}"
        return f"Scheduler({self._config.grid}: {term})"

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._inbox.filled.wait()
            self._inbox.filled.clear()
            taken, self._inbox.events = self._inbox.events[:MAX_BATCH], self._inbox.events[MAX_BATCH:]
            news, self._inbox.news = self._inbox.news, set()
            if self._inbox.events:
                self._inbox.filled.set()
            else:
                taken += [(event, None) for event in self._time_passed()]
            try:
                await self._turn(taken, news)
            except DeposedError:
                log.error("another scheduler has begun a later term; this one ends")  # noqa: TRY400  # no fault
                self._deposed()
                return
            except Exception as error:
                if isinstance(error, StaleWriteError):
                    log.exception("memory and store disagree; starting afresh from the store")
                else:
                    log.exception("a fault nobody foresaw; starting afresh from the store")
                    await asyncio.sleep(FAULT_PAUSE_SECONDS)
                # Nothing of this turn was written; whoever reported will report again.
                for _, waiter in taken:
                    if waiter is not None and not waiter.done():
                        waiter.set_exception(RuntimeError("the scheduler started afresh; report again"))
                await self._restore()

    def _time_passed(self) -> list[ev.Event]:
        """Return who was heard, and then that time passed: in this order, however long the last turn took."""
        heard, self._inbox.beats = self._inbox.beats, {}
        ticked, self._inbox.ticked = self._inbox.ticked, False
        return [*map(ev.HeartbeatReceived, heard.values()), *([ev.TimePassed()] if ticked else [])]

    async def _turn(
        self, taken: Sequence[tuple[ev.Event, asyncio.Future[None] | None]], news: set[JobId] | None
    ) -> None:
        assert self._cluster is not None
        cluster, now = self._cluster, datetime.now(UTC)
        happened: list[ev.Event] = [event for event, _ in taken]
        if news is None:
            happened += await self._insist(lambda: self._ledger.news(known=frozenset(cluster.jobs)))
        elif news:
            happened += await self._insist(lambda: self._ledger.news(sorted(news)))
        done: list[cmd.Command] = []
        for event in happened:
            done += react(cluster, event, now)
        done += place(cluster)
        writes = [c for c in done if isinstance(c, _WRITES)]
        if writes:
            await self._insist(lambda: self._ledger.commit(writes, term=cluster.term, now=now))
        for _, waiter in taken:
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        await self._send([c for c in done if not isinstance(c, _WRITES)])

    async def _send(self, sends: Sequence[cmd.Command]) -> None:
        starts = [c for c in sends if isinstance(c, cmd.StartAttempt)]
        if starts:
            orders = {o.ref: o for o in await self._insist(lambda: self._ledger.orders([c.ref for c in starts]))}
            for node in {c.node for c in starts}:
                self._fleet.start(node, [orders[c.ref] for c in starts if c.node == node and c.ref in orders])
        for command in sends:
            match command:
                case cmd.StopAttempt(node, ref, skips_grace):
                    self._fleet.stop(node, ref, now=skips_grace)
                case cmd.DiscardAttempt(node, ref):
                    self._fleet.discard(node, ref)

    @staticmethod
    async def _insist(act: Callable[[], T]) -> T:
        """Do it in a thread, again and again while the store is away: holding still is all a scheduler can do then."""
        pause = 0.1
        while True:
            try:
                return await asyncio.to_thread(act)
            except RGridError as error:
                log.warning("the store does not answer, trying again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _restore(self) -> None:
        term = await self._insist(lambda: self._ledger.begin_term(os.getpid()))
        now = datetime.now(UTC)
        cluster = Cluster(
            term=term,
            lost_after_seconds=self._config.node_lost_after.total_seconds(),
            rejoin_until=now + self._config.rejoin_grace,
        )
        for event in await self._insist(self._ledger.restore):
            react(cluster, event, now)
        self._cluster = cluster
        self._registered.clear()
        self._note_news("")
        log.info("term %d begins with %d jobs on %d nodes", term, len(cluster.jobs), len(cluster.nodes))

    # -- what happens by itself ---------------------------------------------------------------------------------------

    async def _every(self, seconds: float, act: Callable[[], object]) -> None:
        while True:
            began = time.monotonic()
            try:
                result = act()
                if asyncio.iscoroutine(result):
                    await result
            except DeposedError:
                self._deposed()
            except Exception:
                log.exception("a periodic duty failed; it is tried again")
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))

    def _tick(self) -> None:
        now = datetime.now(UTC)
        skipped, self._ticked_at = (now - self._ticked_at).total_seconds() - TICK_SECONDS, now
        if abs(skipped) > SKIP_SECONDS:
            log.warning("the clock went %.1f s further than this process did", skipped)
            self._put(ev.TimeSkipped(skipped))
        for node in self._fleet.undelivered():
            self._registered.pop(node, None)  # its next heartbeat is answered with: register, and you are told all
        self._inbox.ticked = True
        self._inbox.filled.set()

    def _poll(self) -> None:
        self._note_news("")

    async def _beat(self) -> None:
        cluster = self._cluster
        assert cluster is not None
        heard = {name: n.last_heard for name, n in cluster.nodes.items() if n.state in {"ready", "unready"}}
        with suppress(RGridError):  # the store is away: the loop says so, and a beat is not worth a queue
            await asyncio.to_thread(self._ledger.beat, term=cluster.term, heard=heard)

    async def _prune(self) -> None:
        """Forget what ended long ago, a little at a time: no transaction of it is in anybody's way."""
        while True:
            cluster = self._cluster
            assert cluster is not None
            before = datetime.now(UTC) - self._config.keep_jobs
            with suppress(RGridError):
                prune = partial(self._ledger.prune, term=cluster.term, before=before, limit=PRUNE_AT_ONCE)
                if await asyncio.to_thread(prune) == PRUNE_AT_ONCE:
                    await asyncio.sleep(TICK_SECONDS)
                    continue
            return

    async def _watch(self) -> None:
        cluster = self._cluster
        assert cluster is not None
        silent = frozenset(name for name, node in cluster.nodes.items() if node.state in {"suspect", "lost"})
        for node in await self._fleet.watch(silent):
            if cluster.nodes.get(node) is not None and cluster.nodes[node].state in {"ready", "unready"}:
                self._put(ev.NodeSuspected(node))

    # -- the inbox ----------------------------------------------------------------------------------------------------

    async def _take_in(self, happened: Sequence[ev.Event]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for event in happened[:-1]:
            self._put(event)
        self._put(happened[-1], waiter)
        await waiter

    def _put(self, event: ev.Event, waiter: asyncio.Future[None] | None = None) -> None:
        self._inbox.events.append((event, waiter))
        self._inbox.filled.set()

    def _note_news(self, payload: str) -> None:
        if not payload:
            self._inbox.news = None
        elif self._inbox.news is not None:
            self._inbox.news.add(JobId(payload))
        self._inbox.filled.set()
