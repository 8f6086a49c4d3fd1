"""The executor of one node: takes orders, lives attempts, says what it holds, and sweeps up.

It decides nothing about jobs. After a restart it finds its attempts by their folders and containers, goes on with each,
and registers; the scheduler then tells it what is not its any more. It refuses to know Ray: `SchedulerLink` does that.
"""

import asyncio
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from rgrid.domain.ids import NodeName
from rgrid.domain.job import AttemptOrder, AttemptRef, NodeInfo
from rgrid.domain.resources import Resources, format_cpus, format_memory
from rgrid.errors import RGridError
from rgrid.store.ports import BlobStore, LockStore, LogStore
from rgrid_actors.artifacts import Ids
from rgrid_actors.attempt import Attempt
from rgrid_actors.bench import Bench
from rgrid_actors.containers.port import Containers, EngineEvent
from rgrid_actors.environments.environments import Environments
from rgrid_actors.environments.site import Site
from rgrid_actors.in_thread import InThread
from rgrid_actors.reporter import Reporter, SchedulerLink
from rgrid_actors.spool import Spool, Spools

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
PROBE_SECONDS = 5.0
SAMPLE_SECONDS = 0.25
SWEEP_SECONDS = 60.0
THREADS = 64
#: So many wishes about attempts that are not known here are remembered, in case their orders are still on the way.
UNWANTED = 1000
_STOPPED, _STOPPED_NOW, _DISCARDED = "stopped", "stopped-now", "discarded"
#: Users of these ids own nothing on a node.
NOBODY = Ids(65534, 65534)


class Executor:
    """The executor actor's plain class."""

    def __init__(  # noqa: PLR0917  # its outside things, each once
        self,
        info: NodeInfo,
        containers: Containers,
        blobs: BlobStore,
        logs: LogStore,
        locks: LockStore,
        link: SchedulerLink,
        spools: Spools,
        site: Site,
    ) -> None:
        """Keep what is given; `start` begins."""
        self._info, self._containers, self._link, self._spools = info, containers, link, spools
        #: Tells this process from the one before it.
        self._incarnation = secrets.token_hex(8)
        self._reporter = Reporter(link)
        ids = NOBODY if os.geteuid() == 0 else Ids(os.getuid(), os.getgid())
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="executor")
        self._in_thread = InThread(pool)
        self._environments = Environments(
            spools.folder.parent / "environments", containers, locks, blobs, self._in_thread, ids, site
        )
        self._bench = Bench(containers, blobs, logs, self._reporter, ids, self._in_thread, self._environments)
        self._attempts: dict[AttemptRef, Attempt] = {}
        self._by_container: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._strays: set[str] = set()
        self._min_free = site.min_free_bytes
        self._lost_folders: set[Path] = set()
        self._unwanted: dict[AttemptRef, str] = {}
        self._registered = False

    async def start(self) -> None:
        """Go on with what an earlier executor left, register, and go to work."""
        self._loop = asyncio.get_running_loop()
        self._spools.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._in_thread.patiently(self._environments.start)
        began = time.time()
        for spool in await self._in_thread(lambda: list(self._spools.all())):
            order = await self._in_thread(spool.order)
            if order is None:
                await self._in_thread(spool.remove)  # it died before anything was made of it
            else:
                self._begin(order)
        # Events since before the attempts were looked at: an end is never missed, and seeing one twice does no harm.
        threading.Thread(target=self._hear_engine, args=(began,), name="engine-events", daemon=True).start()
        self._spawn(self._reporter.run())
        self._spawn(self._every(HEARTBEAT_SECONDS, self._beat))
        self._spawn(self._every(PROBE_SECONDS, self._probe))
        self._spawn(self._every(SAMPLE_SECONDS, self._sample))
        self._spawn(self._every(SWEEP_SECONDS, self._sweep))

    # -- what the scheduler sends -------------------------------------------------------------------------------------

    async def start_attempts(self, orders: Sequence[AttemptOrder]) -> None:
        """Take attempts on; one that is held already is not taken twice."""
        for order in orders:
            if order.ref not in self._attempts and self._unwanted.get(order.ref) != _DISCARDED:
                self._begin(order)
                if (wish := self._unwanted.get(order.ref)) is not None:
                    self._attempts[order.ref].request_stop(now=wish == _STOPPED_NOW)

    async def stop_attempt(self, ref: AttemptRef, *, now: bool) -> None:
        """Stop an attempt and report its end."""
        if (attempt := self._attempts.get(ref)) is not None:
            attempt.request_stop(now=now)
        else:
            self._do_not_want(ref, _STOPPED_NOW if now else _STOPPED)

    async def discard_attempt(self, ref: AttemptRef) -> None:
        """Kill an attempt that is not ours any more and report nothing."""
        if (attempt := self._attempts.get(ref)) is not None:
            attempt.discard()
        else:
            self._do_not_want(ref, _DISCARDED)

    async def status(self) -> dict[str, object]:
        """Say who this is and what it holds."""
        return {"pid": os.getpid(), "node": self._info.name, "attempts": len(self._attempts)}

    def __repr__(self) -> str:
        """Show the node in the Ray dashboard, which asks once, when the actor is made: a load would be a lie later."""
        cpus, memory = self._info.capacity.cpu_millis, self._info.capacity.memory_bytes
        return f"Executor({self._info.name}: {format_cpus(cpus)} CPUs, {format_memory(memory)})"

    def _do_not_want(self, ref: AttemptRef, wish: str) -> None:
        """Remember a wish that came before the order it is about: Ray delivers a small call before a large one."""
        self._unwanted[ref] = wish
        if len(self._unwanted) > UNWANTED:
            del self._unwanted[next(iter(self._unwanted))]

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _begin(self, order: AttemptOrder) -> None:
        attempt = Attempt(order, self._spools.of(order.ref), self._bench)
        self._attempts[order.ref] = attempt
        self._spawn(self._live(attempt))

    async def _live(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        except Exception:
            # Nothing was reported, so the scheduler must not go on believing in it: registering tells.
            log.exception("attempt %s was left without an end", attempt.ref)
            self._registered = False
        finally:
            self._attempts.pop(attempt.ref, None)

    # -- the engine ---------------------------------------------------------------------------------------------------

    def _hear_engine(self, since: float) -> None:
        """Listen for ever, in a thread of its own; after a gap, ask for what was missed."""
        while True:
            try:
                for event in self._containers.events(since=since):
                    since = event.at
                    self._loop.call_soon_threadsafe(self._heard, event)
            except Exception as error:  # noqa: BLE001  # whatever it was, the engine has to be heard
                log.info("the engine's events broke off: %s", error)
            self._loop.call_soon_threadsafe(self._engine_went)
            time.sleep(0.5)

    def _heard(self, event: EngineEvent) -> None:
        attempt = self._attempts.get(event.ref)
        if attempt is None:
            return
        match event.kind:
            case "oom":
                attempt.saw_oom()
            case "die":
                attempt.saw_die()

    def _engine_went(self) -> None:
        for attempt in self._attempts.values():
            if attempt.running:
                attempt.saw_engine_away()

    async def _probe(self) -> None:
        try:
            engine = await self._in_thread(self._containers.ping)
            free = (await self._in_thread(lambda: shutil.disk_usage(self._spools.folder))).free
        except RGridError as error:
            self._info = replace(self._info, unready=error.message)
            return
        full = f"its disk has only {format_memory(free)} left (RGRID_MIN_FREE)" if free < self._min_free else ""
        self._info = replace(self._info, unready=full, engine=engine)

    # -- what happens by itself ---------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        with suppress(Exception):  # the scheduler is away; the next beat finds it
            if self._registered and await self._link.heartbeat(self._info, self._incarnation):
                return
            self._registered = False
            await self._probe()
            await self._link.register(self._info, self._incarnation, tuple(self._attempts))
            self._registered = True

    async def _sample(self) -> None:
        running = [a for a in self._attempts.values() if a.running and a.container is not None]
        if not running:
            return

        def look() -> None:
            for attempt in running:
                assert attempt.container is not None
                if (usage := self._containers.usage(attempt.container)) is not None:
                    attempt.saw_usage(usage)

        await self._in_thread(look)

    async def _sweep(self) -> None:
        """Remove containers of this node that no attempt owns, once they were seen twice."""
        found = await self._in_thread(self._containers.find)
        strays = {c.id for c in found if c.ref not in self._attempts}
        for stray in strays & self._strays:
            log.info("removing container %s, which no attempt owns", stray[:12])
            await self._in_thread(partial(self._containers.remove, stray))
        self._strays = strays
        await self._in_thread(self._sweep_folders)
        await self._in_thread(self._environments.evict)

    def _sweep_folders(self) -> None:
        """Remove folders that no attempt owns, once they were seen twice: one may be taken on at this moment."""
        found = {spool.folder for spool in self._spools.all()}
        lost = found - {self._spools.of(ref).folder for ref in list(self._attempts)}
        for folder in lost & self._lost_folders:
            Spool(folder).remove()
        self._lost_folders = lost

    async def _every(self, seconds: float, act: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                await act()
            except Exception:
                log.exception("a periodic duty failed; it is tried again")
            await asyncio.sleep(seconds)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def node_info(name: NodeName, address: str, reserve: Resources | None = None) -> NodeInfo:
    """Return what this machine has, less what is held back for others."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capacity = Resources(len(os.sched_getaffinity(0)) * 1000, memory)
    return NodeInfo(name, capacity - reserve if reserve else capacity, address, os.getpid())
