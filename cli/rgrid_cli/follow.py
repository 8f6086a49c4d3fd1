"""Follows a job to its end: its streams come through byte by byte, and Ctrl-C is kind.

On a terminal, Ctrl-C asks whether to cancel the job or to leave it running (detach); a second one detaches. Where
nobody can be asked, the first one cancels and a second one detaches.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Self

from rgrid.client import Client
from rgrid.domain.lifecycle import State
from rgrid.wire import JobView, LogFollow
from rgrid_cli import output

#: Nothing is said about a wait shorter than this.
QUIET_SECONDS = 1.5
_WORDS = {
    State.BLOCKED: "waiting for other jobs",
    State.QUEUED: "waiting for a node",
    State.ASSIGNED: "preparing",
    State.STOPPING: "stopping",
}


def follow(client: Client, job: JobView, *, streams_to_stderr: bool = False, logs: bool = True) -> JobView | None:
    """Stream a job until it has ended and return it; None when the user chose to leave it running."""
    progress = _Progress()
    asked = False
    attempt, seq = 0, 0
    while True:
        try:
            with _Interrupts() as interrupts:
                for line in client.follow(job.id, attempt, seq):
                    with interrupts.held():
                        _show(line, progress, streams_to_stderr=streams_to_stderr, logs=logs)
                        if line.chunk is not None:
                            attempt, seq = line.chunk.attempt, line.chunk.seq
                return client.job(job.id)
        except KeyboardInterrupt:
            progress.stop()
            if asked or not _wants_cancel(job.id):
                return None
            asked = True
            client.cancel(job.id)
            output.say(f"Cancelling job {job.id}; Ctrl-C again leaves it to itself.")
        finally:
            progress.stop()


def _show(line: LogFollow, progress: "_Progress", *, streams_to_stderr: bool, logs: bool) -> None:
    if line.chunk is not None:
        progress.stop()
        if logs:
            stream = sys.stdout if line.chunk.stream == "stdout" and not streams_to_stderr else sys.stderr
            _write(stream, line.chunk.data.encode("latin-1"))
    elif line.state is not None:
        words = _WORDS.get(line.state)
        progress.tell(f"{words}: {line.phase}" if words and line.phase else words)


def _write(stream: IO[str], data: bytes) -> None:
    stream.buffer.write(data)  # type: ignore[attr-defined]  # every text stream of a process has one
    stream.flush()


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
        self._began = time.monotonic()
        self._last: str | None = None
        self._shown = False

    def tell(self, words: str | None) -> None:
        """Say it, if it is news."""
        if words is None:
            self.stop()
            return
        if words == self._last:
            return
        self._last = words
        quiet = time.monotonic() - self._began < QUIET_SECONDS and ":" not in words
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K\x1b[2m{words}…\x1b[0m")
            sys.stderr.flush()
            self._shown = True
        elif not quiet:
            output.say(f"rgrid: {words}")

    def stop(self) -> None:
        """Take the line away before anything else is written."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
