"""Follows a job to its end: its streams come through byte by byte, and Ctrl-C is kind.

On a terminal, Ctrl-C asks whether to cancel the job or to leave it running (detach); a second one detaches. Where
nobody can be asked, the first one cancels and a second one detaches.
"""

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Self

from rgrid.client import Client
from rgrid.domain.lifecycle import State
from rgrid.wire import JobView, LogChunk
from rgrid_cli import output

#: Nothing is said about a wait shorter than this.
QUIET_SECONDS = 1.5
_WORDS = {
    State.BLOCKED: "waiting for other jobs",
    State.QUEUED: "waiting for a node",
    State.ASSIGNED: "preparing",
    State.STOPPING: "stopping",
}


def follow(client: Client, job: JobView, write: Callable[[LogChunk], None]) -> JobView | None:
    """Give a job's pieces to `write` until it has ended, and return it; None when the user chose to leave it running.

    For whoever started it: Ctrl-C asks what is to become of the job.
    """
    progress, asked, at = _Progress(), False, _Place()
    while True:
        try:
            _follow(client, job, write, progress, at)
            return client.job(job.id)
        except KeyboardInterrupt:
            progress.stop()
            if asked or not _wants_cancel(job.id):
                return None
            asked = True
            client.cancel(job.id)
            output.say(f"Cancelling job {job.id}; Ctrl-C again does not wait for its end.")
        finally:
            progress.stop()


def view(client: Client, job: JobView, write: Callable[[LogChunk], None], *, attempt: int = 0) -> None:
    """Give a job's pieces to `write` until it has ended, or the attempt that is named has. Ctrl-C just ends it."""
    progress = _Progress()
    try:
        _follow(client, job, write, progress, _Place(attempt, only=attempt))
    finally:
        progress.stop()


@dataclass(slots=True)
class _Place:
    """How far the log was followed."""

    attempt: int = 0
    seq: int = 0
    #: Nothing behind this attempt is wanted; 0 when all are.
    only: int = 0


def _follow(client: Client, job: JobView, write: Callable[[LogChunk], None], progress: "_Progress", at: _Place) -> None:
    with _Interrupts() as interrupts:
        for line in client.follow(job.id, at.attempt, at.seq):
            with interrupts.held():
                if line.chunk is None:
                    words = _WORDS.get(line.state) if line.state is not None else None
                    if line.state is not None:
                        progress.tell(f"{words}: {line.phase}" if words and line.phase else words)
                    continue
                if at.only and line.chunk.attempt > at.only:
                    return
                progress.stop()
                write(line.chunk)
                at.attempt, at.seq = line.chunk.attempt, line.chunk.seq


def to_streams(*, stdout: IO[str], stderr: IO[str], only: frozenset[str] = frozenset()) -> Callable[[LogChunk], None]:
    """Return a way to write pieces as they are to two streams; with `only`, those of some streams alone."""

    def write(chunk: LogChunk) -> None:
        if not only or chunk.stream in only:
            stream = stdout if chunk.stream == "stdout" else stderr
            stream.buffer.write(chunk.data.encode("latin-1"))  # type: ignore[attr-defined]  # every text stream has one
            stream.flush()

    return write


def _wants_cancel(job: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"\nCancel job {job}, or detach and leave it running? [c/D] ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip().lower().startswith("c")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return False


class _Interrupts:
    """Keeps Ctrl-C from falling between writing a piece and noting that it was written: it would be written twice."""

    def __init__(self) -> None:
        self._held = self._came = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what is done in here be done whole."""
        self._held = True
        yield
        self._held = False
        if self._came:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self._came = True


class _Progress:
    """Says what a job waits for: in place on a terminal, in plain lines elsewhere, and not at all when it is quick."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._shown = False
        self._soon: threading.Timer | None = None

    def tell(self, words: str | None) -> None:
        """Say it, if it is news; what lasts only a moment is not said in lines that stay."""
        if words is None:
            self.stop()
            return
        if words == self._last:
            return
        self._put_off()
        self._last = words
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K\x1b[2m{words[: shutil.get_terminal_size().columns - 2]}…\x1b[0m")
            sys.stderr.flush()
            self._shown = True
        else:
            self._soon = threading.Timer(QUIET_SECONDS, output.say, [f"rgrid: {words}"])
            self._soon.daemon = True
            self._soon.start()

    def stop(self) -> None:
        """Take the line away before anything else is written."""
        self._put_off()
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False

    def _put_off(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
