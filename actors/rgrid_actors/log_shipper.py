"""From the engine's log of one container to the store: in order, exactly once, within a moment, and never too much.

One thread reads the engine's stream (which blocks), another stores what has come since it last looked: batches grow
by themselves when output comes fast and stay small when it is awaited. Each stored piece carries the engine's cursor,
so whoever goes on after a crash starts just behind it: the engine's own bounded log file is the spool. While the store
is away the threads hold still and that file keeps what comes.

Over the cap the head has been stored as it came, the newest bytes are kept in memory, and at the end a line in each
stream marks the gap before them.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from rgrid.domain.job import AttemptRef
from rgrid.domain.resources import format_memory
from rgrid.errors import RGridError
from rgrid.store.ports import LogPiece, LogStore, LogTail, Stream
from rgrid_actors.containers.port import Containers, LogEntry

log = logging.getLogger(__name__)

#: One row in the store is at most about this large.
PIECE_BYTES = 256 * 1024
#: Least time between two writes: a script that prints without end costs the store some 30 rows a second.
PACE_SECONDS = 0.03
#: Kept for the end of a log that is over its cap.
TAIL_BYTES = 1024 * 1024
TAIL_OF_STDERR = 8192
_QUEUE = 10_000


class LogShipper:
    """Follows the log of one attempt until its container has ended and everything is stored."""

    def __init__(
        self,
        containers: Containers,
        logs: LogStore,
        ref: AttemptRef,
        container: str,
        cap: int,
        *,
        on_done: Callable[[], object] = lambda: None,
    ) -> None:
        """Keep what is given; `start` begins. `on_done` is called, from a thread, once everything is stored."""
        self._on_done = on_done
        self._containers, self._logs = containers, logs
        self._ref, self._container = ref, container
        self._tail_bytes = min(TAIL_BYTES, cap // 2)
        self._head_left = cap - self._tail_bytes
        self._came: queue.Queue[LogEntry | None] = queue.Queue(_QUEUE)
        self._gone = threading.Event()
        #: The last write did not go through.
        self.store_is_away = False
        self._done = threading.Event()
        #: The last of what was written to stderr.
        self.last_words = b""
        self._seq = 0
        self._offset: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._kept: deque[LogEntry] = deque()
        self._kept_bytes = 0
        self._dropped: dict[Stream, int] = {"stdout": 0, "stderr": 0}

    def start(self) -> None:
        """Begin both threads; where the stored log ends is asked in them, for the store may be away."""
        name = f"log-{self._ref.job}"
        threading.Thread(target=self._ship, name=f"{name}-ship", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until everything is stored; False when it is not by then."""
        return self._done.wait(seconds)

    def give_up(self) -> None:
        """Stop: the attempt is not ours any more."""
        self._gone.set()
        with suppress(queue.Full):  # a full queue wakes whoever waits for it as well
            self._came.put_nowait(None)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, cursor: str) -> None:
        try:
            while not self._gone.is_set():
                try:
                    for entry in self._containers.logs(self._container, cursor=cursor):
                        cursor = entry.cursor
                        self._put(entry)
                    # A following may end before the log does; once the container has ended a plain look has the rest.
                    if self._containers.inspect(self._container) is not None:
                        for entry in self._containers.logs(self._container, cursor=cursor, follow=False):
                            cursor = entry.cursor
                            self._put(entry)
                        return
                except Exception as error:  # noqa: BLE001  # engine away, or the container removed under us
                    log.info("log of %s broke off, going on after %r: %s", self._ref.job, cursor, error)
                    self._gone.wait(0.5)
        finally:
            self._put(None)

    def _put(self, entry: LogEntry | None) -> None:
        while not self._gone.is_set():
            try:
                self._came.put(entry, timeout=1.0)
            except queue.Full:
                continue
            else:
                return

    # -- storing ------------------------------------------------------------------------------------------------------

    def _ship(self) -> None:
        tail = self._insist_tail()
        if tail is None:
            return
        self._seq, self._offset = tail.seq, {"stdout": tail.stdout, "stderr": tail.stderr}
        self._head_left -= tail.stdout + tail.stderr
        threading.Thread(target=self._read, args=(tail.cursor,), name=f"log-{self._ref.job}-read", daemon=True).start()
        last, ended = 0.0, False
        while not ended and not self._gone.is_set():
            batch = self._next_batch()
            if wait := max(0.0, last + PACE_SECONDS - time.monotonic()):
                self._gone.wait(wait)
                batch += self._rest()
            last = time.monotonic()
            ended = batch[-1] is None
            self._store([entry for entry in batch if entry is not None])
        if ended:
            self._store_tail()
            if not self._gone.is_set():
                self._done.set()
                self._on_done()

    def _next_batch(self) -> list[LogEntry | None]:
        return [self._came.get(), *self._rest()] if not self._gone.is_set() else [None]

    def _rest(self) -> list[LogEntry | None]:
        rest: list[LogEntry | None] = []
        while True:
            try:
                rest.append(self._came.get_nowait())
            except queue.Empty:
                return rest

    def _store(self, entries: Sequence[LogEntry]) -> None:
        head: list[LogEntry] = []
        for entry in entries:
            if entry.stream == "stderr":
                self.last_words = (self.last_words + entry.data)[-TAIL_OF_STDERR:]
            if self._head_left >= len(entry.data) and not self._kept:
                self._head_left -= len(entry.data)
                head.append(entry)
            else:
                self._keep(entry)
        self._append(head)

    def _keep(self, entry: LogEntry) -> None:
        self._kept.append(entry)
        self._kept_bytes += len(entry.data)
        while self._kept_bytes > self._tail_bytes:
            oldest = self._kept.popleft()
            self._kept_bytes -= len(oldest.data)
            self._dropped[oldest.stream] += len(oldest.data)

    def _store_tail(self) -> None:
        cursor = self._kept[0].cursor if self._kept else ""
        marks = [
            LogEntry(stream, f"\n[rgrid: {format_memory(dropped)} of output left out here]\n".encode(), cursor)
            for stream, dropped in self._dropped.items()
            if dropped
        ]
        self._append([*marks, *self._kept])

    def _append(self, entries: Sequence[LogEntry]) -> None:
        pieces = [self._number(piece) for piece in _joined(entries)]
        pause = 0.1
        while pieces and not self._gone.is_set():
            try:
                self._logs.append(self._ref.job, self._ref.number, pieces)
            except RGridError as error:
                self.store_is_away = True
                log.warning("log of %s not stored, trying again in %.1f s: %s", self._ref.job, pause, error)
                self._gone.wait(pause)
                pause = min(pause * 2, 5.0)
            else:
                self.store_is_away = False
                return

    def _number(self, entry: LogEntry) -> LogPiece:
        self._seq += 1
        offset = self._offset[entry.stream]
        self._offset[entry.stream] += len(entry.data)
        return LogPiece(entry.stream, entry.data, entry.cursor, self._ref.number, self._seq, offset)

    def _insist_tail(self) -> LogTail | None:
        pause = 0.1
        while not self._gone.is_set():
            try:
                tail = self._logs.tail(self._ref.job, self._ref.number)
            except RGridError:
                self.store_is_away = True
                self._gone.wait(pause)
                pause = min(pause * 2, 5.0)
            else:
                self.store_is_away = False
                return tail
        return None


def _joined(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Join neighbours of one stream; the last one's cursor speaks for all."""
    joined: list[LogEntry] = []
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        if joined and joined[-1].stream == entry.stream and size + len(entry.data) <= PIECE_BYTES:
            parts.append(entry.data)
            size += len(entry.data)
            joined[-1] = replace(joined[-1], cursor=entry.cursor)
            continue
        if joined:
            joined[-1] = replace(joined[-1], data=b"".join(parts))
        joined.append(entry)
        parts, size = [entry.data], len(entry.data)
    if joined:
        joined[-1] = replace(joined[-1], data=b"".join(parts))
    return joined
