"""The way of a log: order, resuming, and a cap whose gap is marked. The engine's side is a script of entries."""

from collections.abc import Iterator, Sequence

import pytest

from rgrid.domain.ids import JobId, Lease
from rgrid.domain.job import AttemptRef
from rgrid.errors import Code, RGridError
from rgrid.store.memory import MemoryLogs
from rgrid.store.ports import LogPiece
from rgrid_actors.containers.port import Exit, LogEntry
from rgrid_actors.log_shipper import LogShipper

REF = AttemptRef(JobId("j1"), 1, Lease("1.1"))


class Engine:
    """Gives entries, breaking off where told to."""

    def __init__(self, entries: Sequence[LogEntry], breaks: Sequence[int] = (), ends_early: int = -1) -> None:
        self.entries, self.breaks, self.ends_early = entries, list(breaks), ends_early
        self.asked: list[str] = []

    def logs(self, _container: str, *, cursor: str, follow: bool = True) -> Iterator[LogEntry]:
        if follow:
            self.asked.append(cursor)
        at = next((i + 1 for i, e in enumerate(self.entries) if e.cursor == cursor), 0)
        stop = self.breaks.pop(0) if self.breaks else None
        for i, entry in enumerate(self.entries[at:], at):
            if i == stop and follow:
                raise RGridError(Code.DOCKER_UNREACHABLE, "broke off")
            if i == self.ends_early and follow:
                return
            yield entry

    def inspect(self, _container: str) -> Exit:
        return Exit(0, oom_killed=False, started_at=None, finished_at=None)


class Away(MemoryLogs):
    """A store that is away for the first few writes."""

    left = 3

    def append(self, job: JobId, attempt: int, pieces: Sequence[LogPiece]) -> None:
        if self.left:
            self.left -= 1
            raise RGridError(Code.DATABASE_UNREACHABLE)
        super().append(job, attempt, pieces)


def lines(count: int, size: int = 8) -> list[LogEntry]:
    streams = ("stdout", "stderr")
    return [LogEntry(streams[i % 2], f"{i:0{size - 1}}\n".encode(), f"t{i}") for i in range(count)]


def ship(engine: Engine, logs: MemoryLogs, cap: int = 10**6) -> None:
    shipper = LogShipper(engine, logs, REF, "c", cap)
    shipper.start()
    assert shipper.wait(20)


def stored(logs: MemoryLogs, stream: str) -> bytes:
    return logs.read(REF.job, attempt=1, stream=stream, offset=0, limit_bytes=10**9)


def wanted(entries: Sequence[LogEntry], stream: str) -> bytes:
    return b"".join(e.data for e in entries if e.stream == stream)


@pytest.mark.parametrize("logs", [MemoryLogs(), Away()])
def test_everything_in_order_even_while_the_store_is_away(logs: MemoryLogs) -> None:
    entries = lines(5000)
    ship(Engine(entries), logs)
    assert stored(logs, "stdout") == wanted(entries, "stdout")
    assert stored(logs, "stderr") == wanted(entries, "stderr")


def test_an_engine_that_breaks_off_is_read_on() -> None:
    entries, logs = lines(100), MemoryLogs()
    engine = Engine(entries, breaks=[30, 60])
    ship(engine, logs)
    assert stored(logs, "stdout") == wanted(entries, "stdout")
    assert engine.asked == ["", "t29", "t59"]


def test_a_following_that_ends_early_is_completed() -> None:
    entries, logs = lines(100), MemoryLogs()
    ship(Engine(entries, ends_early=50), logs)
    assert stored(logs, "stdout") == wanted(entries, "stdout")
    assert stored(logs, "stderr") == wanted(entries, "stderr")


def test_a_new_executor_goes_on_where_the_old_one_stored() -> None:
    entries, logs = lines(100), MemoryLogs()
    ship(Engine(entries[:40]), logs)
    engine = Engine(entries)
    ship(engine, logs)
    assert engine.asked == ["t39"]
    assert stored(logs, "stdout") == wanted(entries, "stdout")


def test_over_the_cap_head_and_tail_stay_and_the_gap_is_marked() -> None:
    entries, logs = lines(10_000, size=10), MemoryLogs()
    ship(Engine(entries), logs, cap=4000)
    for stream in ("stdout", "stderr"):
        kept = stored(logs, stream)
        assert len(kept) < 4000
        assert kept.startswith(wanted(entries[:100], stream))
        assert kept.endswith(wanted(entries[-100:], stream))
        assert b"of output left out here]" in kept
