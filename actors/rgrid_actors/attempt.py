"""One attempt on its node, from the order to the acknowledged end.

    order written down -> image, files -> container made -> started -> (runs) -> ended -> proof -> reported -> removed

Every arrow may be where the executor dies. The next one finds the folder (`spool`) and perhaps the container, and goes
on from there: steps that were done are recognised and not done twice, because the container's name is the attempt's and
because each step is written down before the next begins.

Blocking calls (Docker, Postgres, files) run in threads, never on the actor's event loop.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from rgrid.domain.job import AttemptOrder, Ending, OutputFile
from rgrid.domain.reasons import EndReason
from rgrid.errors import Code, RGridError
from rgrid.scheduling.events import AttemptEnded, AttemptProgressed, AttemptStarted
from rgrid_actors import artifacts
from rgrid_actors.bench import Bench
from rgrid_actors.containers.port import Exit, Usage
from rgrid_actors.hints import hint
from rgrid_actors.log_shipper import LogShipper
from rgrid_actors.preparation import PreparationError, prepare
from rgrid_actors.proof import Evidence, Stopper, facts, judge
from rgrid_actors.spool import Spool, boot_id

log = logging.getLogger(__name__)
N = TypeVar("N", int, float)
T = TypeVar("T")

#: An end the event stream did not tell of is found by looking this often.
LOOK_SECONDS = 2.0
DISK_LOOK_SECONDS = 2.0
#: How long the last log lines may take to reach the store before the end is reported without them.
LOG_PATIENCE_SECONDS = 60.0


class Attempt:
    """One attempt. `run` is the whole of its life; the other methods tell it what happened meanwhile."""

    def __init__(self, order: AttemptOrder, spool: Spool, bench: Bench) -> None:
        """Keep what is given."""
        self.order, self.ref, self.spec = order, order.ref, order.spec
        self._spool, self._bench = spool, bench
        self.container: str | None = None
        self.running = False
        self._changed = asyncio.Event()
        self._stop: Stopper | None = None
        self._stop_now = False
        self._discarded = False
        self._oom_events = 0
        self._disk_used = 0
        self._engine_was_away = False
        self._usage: Usage | None = None

    # -- what the executor tells it -----------------------------------------------------------------------------------

    def request_stop(self, *, now: bool) -> None:
        """Ask for the end; asked again with `now`, the grace is skipped."""
        self._stop = self._stop or "cancel"
        self._stop_now = self._stop_now or now
        self._changed.set()

    def discard(self) -> None:
        """Give the attempt up: kill, clean, report nothing."""
        self._discarded = True
        self._changed.set()

    def saw_oom(self) -> None:
        """Note that the kernel killed in this container."""
        self._oom_events += 1

    def saw_die(self) -> None:
        """Note that the container may have ended."""
        self._changed.set()

    def saw_engine_away(self) -> None:
        """Note that the engine did not answer while the container was to run."""
        self._engine_was_away = True

    def saw_usage(self, usage: Usage) -> None:
        """Keep the highest figures."""
        last = self._usage
        if last is None:
            self._usage = usage
            return
        self._usage = Usage(
            _highest(last.peak_memory_bytes, usage.peak_memory_bytes),
            _highest(last.cpu_seconds, usage.cpu_seconds),
            max(last.oom_kills, usage.oom_kills),
        )

    # -- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live it to the end, wherever an earlier executor left it."""
        ending = await self._bench.in_thread(self._spool.ending)
        if ending is None:
            try:
                ending = await self._live()
            except PreparationError as error:
                ending = self._ending(error.reason, str(error))
            except asyncio.CancelledError:
                raise
            except OSError as error:
                log.exception("attempt %s failed on its node's files", self.ref)
                full = error.errno in artifacts.FULL
                ending = self._ending(EndReason.DISK if full else EndReason.INTERNAL, f"its node's files: {error}")
            except Exception as error:
                log.exception("attempt %s failed through a fault of RGrid", self.ref)
                ending = self._ending(EndReason.INTERNAL, f"{type(error).__name__}: {error}")
            if not self._discarded:
                try:
                    await self._bench.in_thread(lambda: self._spool.end(ending))
                except OSError:  # a full disk; whoever comes after us would have to find it out again
                    log.exception("the end of %s could not be written down", self.ref)
        if not self._discarded:
            await self._bench.reporter.send(AttemptEnded(self.ref, ending))
        await self._clean()

    async def _live(self) -> Ending:
        in_thread, spool = self._bench.in_thread, self._spool
        await in_thread(lambda: spool.begin(self.order))
        self.container = spool.progress.container
        if (environment := spool.progress.environment) is not None:
            await in_thread(lambda: self._bench.environments.hold(self.ref, environment))
        if spool.progress.boot not in {None, boot_id()}:
            self._engine_was_away = True  # with the whole machine
        if spool.progress.stopped_by is not None:
            self._stop = "cancel" if spool.progress.stopped_by == "cancel" else self._stop
        container = self.container = self.container or await self._prepared()
        loop, logged = asyncio.get_running_loop(), asyncio.Event()
        shipper = LogShipper(
            self._bench.containers,
            self._bench.logs,
            self.ref,
            container,
            self.spec.log_bytes,
            on_done=lambda: loop.call_soon_threadsafe(logged.set),
        )
        began = time.monotonic()
        if spool.progress.started_at is None:
            await self._start(container)
        started_at = spool.progress.started_at
        assert started_at is not None
        self._bench.reporter.send(AttemptStarted(self.ref, started_at))
        self.running = True
        shipper.start()
        try:
            found = await self._until_ended(container, started_at)
        finally:
            self.running = False
            if self._discarded:
                shipper.give_up()
        if found is None:
            return self._ending(EndReason.CANCELLED, "discarded")
        ran = time.monotonic() - began
        await self._log_stored(shipper, logged)
        ending = await self._conclude(found, started_at, ran, logged=logged.is_set())
        advice = hint(self.spec, ending.reason, ending.exit_code, shipper.last_words.decode("utf-8", "replace"))
        return replace(ending, proof={**ending.proof, "hint": advice}) if advice else ending

    async def _prepared(self) -> str:
        """Return a container that is ready to start, within the time that preparing may take."""
        limit = self.spec.prepare_timeout.total_seconds()
        unfinished = EndReason.IMAGE

        def note(reason: EndReason) -> None:
            nonlocal unfinished
            unfinished = reason

        while True:
            try:
                async with asyncio.timeout(limit):
                    work = prepare(self.order, self._spool, self._bench, self._progressed, note)
                    return await self._unless_stopped(work)
            except TimeoutError:
                if not self._bench.in_thread.held_up:  # by an engine or a store that is away: no fault of the job's
                    raise PreparationError(unfinished, f"preparation took longer than {limit:g} s") from None

    async def _log_stored(self, shipper: LogShipper, logged: asyncio.Event) -> None:
        """Wait until the whole log is stored, or cannot be."""
        while not logged.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOG_PATIENCE_SECONDS):
                    await logged.wait()
            if not shipper.store_is_away:  # while it is, the end could not be written either
                break
        shipper.give_up()

    async def _start(self, container: str) -> None:
        began = time.monotonic()
        containers, spool = self._bench.containers, self._spool
        try:
            await self._bench.in_thread.patiently(lambda: containers.start(container))
        except RGridError as error:
            if error.code is Code.IMAGE_UNAVAILABLE:  # the image has nothing that could run the script
                raise PreparationError(EndReason.IMAGE, error.message) from error
            if error.code is Code.NOT_FOUND:
                raise PreparationError(EndReason.ENGINE_LOST, "the container went before it was started") from error
            raise
        started_at = datetime.now(UTC)
        timings = replace(spool.progress.timings, start=time.monotonic() - began)
        await self._bench.in_thread(lambda: spool.note(started_at=started_at, boot=boot_id(), timings=timings))

    async def _until_ended(self, container: str, started_at: datetime) -> Exit | None:
        """Watch clock, disk, wishes and the engine until the container has ended; None when it was discarded."""
        # How long it ran before is asked of the wall clock, for whoever measured it may be gone; the rest is measured.
        ran_before = max(timedelta(), datetime.now(UTC) - started_at)
        deadline = time.monotonic() + (self.spec.timeout - ran_before).total_seconds()
        next_disk = time.monotonic() + DISK_LOOK_SECONDS
        stopping: asyncio.Task[None] | None = None
        try:
            while True:
                found = await self._look(container)
                if found is not None:
                    return found
                if self._discarded:
                    return None
                if self._stop is None and time.monotonic() >= deadline:
                    self._stop = "timeout"
                if self._stop is None and time.monotonic() >= next_disk:
                    self._disk_used = await self._bench.in_thread(lambda: artifacts.disk_usage(self._spool.workspace))
                    next_disk = time.monotonic() + DISK_LOOK_SECONDS
                    if self._disk_used > self.spec.disk_bytes:
                        self._stop, self._stop_now = "disk", True
                if self._stop is not None and (stopping is None or stopping.done()):
                    stopping = asyncio.create_task(self._stop_container(container))
                self._changed.clear()
                left = deadline - time.monotonic() if self._stop is None else LOOK_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.001, min(left, LOOK_SECONDS))):
                        await self._changed.wait()
                if stopping is not None and self._stop_now and not stopping.done():
                    stopping.cancel()
                    stopping = None
        finally:
            if stopping is not None:
                stopping.cancel()

    async def _look(self, container: str) -> Exit | None:
        try:
            found = await self._bench.in_thread(lambda: self._bench.containers.inspect(container))
        except RGridError as error:
            if error.code is Code.NOT_FOUND:  # somebody removed it
                return Exit(None, oom_killed=False, started_at=None, finished_at=None, error="the container is gone")
            self._engine_was_away = True
            return None
        if found is None:  # it outlived whatever became of the engine
            self._engine_was_away = False
        return found

    async def _stop_container(self, container: str) -> None:
        """SIGTERM, the grace, SIGKILL."""
        containers, in_thread = self._bench.containers, self._bench.in_thread
        if self._spool.progress.stopped_at is None:
            at = datetime.now(UTC)
            await in_thread(lambda: self._spool.note(stopped_by=self._stop, stopped_at=at))
        try:
            if not self._stop_now:
                await in_thread(lambda: containers.signal(container, "SIGTERM"))
                await asyncio.sleep(self.spec.grace.total_seconds())
            await in_thread(lambda: containers.signal(container, "SIGKILL"))
        except RGridError as error:
            log.warning("could not signal %s, trying again: %s", container[:12], error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _conclude(self, found: Exit, started_at: datetime, ran: float, *, logged: bool) -> Ending:
        progress, usage = self._spool.progress, self._usage
        finished = found.finished_at
        elapsed = (finished - (found.started_at or started_at)) if finished is not None else timedelta(seconds=ran)
        evidence = Evidence(
            exit=found,
            memory_limit=self.spec.resources.memory_bytes,
            timeout=self.spec.timeout,
            elapsed=elapsed,
            stopped_by=_stopper(progress.stopped_by),
            stopped_at=progress.stopped_at,
            oom_events=self._oom_events,
            oom_kills=usage.oom_kills if usage else 0,
            peak_memory_bytes=usage.peak_memory_bytes if usage else None,
            engine_was_away=self._engine_was_away,
            disk_limit=self.spec.disk_bytes,
            disk_used=self._disk_used,
        )
        verdict = judge(evidence)
        peak = evidence.peak_memory_bytes
        if verdict.reason is EndReason.OOM:
            # The kernel kills when a charge would pass the limit: that is the peak, however late the last sample was.
            peak = evidence.memory_limit
            verdict = judge(replace(evidence, peak_memory_bytes=peak))
        began = time.monotonic()
        reason, message = verdict.reason, verdict.message
        outputs: tuple[OutputFile, ...] = ()
        try:
            outputs, left_out = await self._bench.in_thread.patiently(self._collect)
            if left_out:
                first = left_out[0].encode("utf-8", "backslashreplace").decode()
                what = "1 output was" if len(left_out) == 1 else f"{len(left_out)} outputs were"
                message = f"{message}; {what} left out, {first!r} first: only plain files with plain names are kept"
        except (RGridError, artifacts.OutputError) as error:
            reason = EndReason.OUTPUT if reason is EndReason.EXIT else reason
            message = f"{message}; {error}"
        if not logged:
            message = f"{message}; the last of its log could not be stored"
        timings = replace(progress.timings, run=elapsed.total_seconds(), collect=time.monotonic() - began)
        return replace(
            self._ending(reason, message),
            exit_code=verdict.exit_code,
            signal=verdict.signal,
            peak_memory_bytes=peak,
            cpu_seconds=usage.cpu_seconds if usage else None,
            started_at=found.started_at or started_at,
            timings=timings,
            outputs=outputs,
            proof=facts(evidence),
        )

    def _collect(self) -> tuple[tuple[OutputFile, ...], list[str]]:
        left_out: list[str] = []
        found = artifacts.collect(
            self._spool.workspace,
            self._spool.progress.laid_out,
            self._bench.blobs,
            self.order.owner,
            self.spec.disk_bytes,
            left_out=left_out.append,
        )
        return found, left_out

    async def _clean(self) -> None:
        """Leave nothing behind, and insist: the end has been acknowledged, so nobody else will."""
        containers, in_thread = self._bench.containers, self._bench.in_thread
        container = self.container or self._spool.progress.container
        pause = 0.5
        while container is not None:
            try:
                await in_thread(partial(containers.remove, container))
            except RGridError as error:
                log.warning("container %s not removed, trying again: %s", container[:12], error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30.0)
            else:
                break
        self._bench.environments.release(self.ref)
        await in_thread(self._spool.remove)

    async def _unless_stopped(self, preparing: Coroutine[None, None, T]) -> T:
        """Prepare, but not a moment longer than anybody wants it."""
        task = asyncio.ensure_future(preparing)
        while not task.done():
            wish = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({task, wish}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                task.cancel()
                raise
            finally:
                wish.cancel()
            self._changed.clear()
            if self._stop is not None or self._discarded:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise PreparationError(EndReason.CANCELLED, "stopped on request before it started")
        return task.result()

    def _progressed(self, detail: str, phase: str = "image") -> None:
        self._bench.reporter.send(AttemptProgressed(self.ref, phase, datetime.now(UTC), detail))

    def _ending(self, reason: EndReason, message: str) -> Ending:
        progress = self._spool.progress
        return Ending(
            reason=reason,
            at=datetime.now(UTC),
            message=message,
            image_digest=progress.image_digest,
            started_at=progress.started_at,
            timings=progress.timings,
        )


def _highest(a: N | None, b: N | None) -> N | None:
    return b if a is None else a if b is None else max(a, b)


def _stopper(word: str | None) -> Stopper | None:
    match word:
        case "timeout" | "cancel" | "disk":
            return word
        case _:
            return None
