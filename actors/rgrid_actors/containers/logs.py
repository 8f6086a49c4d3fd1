"""The engine's log stream, taken apart: frames of two streams, each with the time the engine kept it under.

The cursor of an entry is that time and how many entries bore it: `2026-01-01T00:00:00.123456789Z#2`. Reading again from
there asks the engine for everything since that time, and skips as many entries of exactly that time as were seen.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rgrid.store.ports import Stream
from rgrid_actors.containers.port import LogEntry

_HEADER = 8
_STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}


def frames(pieces: Iterable[bytes]) -> Iterator[tuple[Stream, bytes]]:
    """Put the multiplexed stream's frames together from pieces of any sizes; a last one that is cut off is dropped."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        at = 0
        while len(waiting) - at >= _HEADER:
            end = at + _HEADER + int.from_bytes(waiting[at + 4 : at + 8], "big")
            if len(waiting) < end:
                break
            stream = _STREAMS.get(waiting[at])
            if stream is not None:
                yield stream, bytes(waiting[at + _HEADER : end])
            at = end
        del waiting[:at]


def entries(pieces: Iterable[bytes], cursor: str) -> Iterator[LogEntry]:
    """Give what comes after `cursor`."""
    seen_at, _, count = cursor.partition("#")
    skip = int(count or 0)
    last, number = "", 0
    for stream, frame in frames(pieces):
        at, _, data = frame.partition(b" ")
        time = at.decode("ascii", "replace")
        number = number + 1 if time == last else 1
        last = time
        if time < seen_at or (time == seen_at and number <= skip):
            continue
        yield LogEntry(stream, data, f"{time}#{number}")


def since(cursor: str) -> str:
    """Return the engine's `since` parameter for a cursor: seconds and nanoseconds since the epoch."""
    time = cursor.partition("#")[0]
    if not time:
        return "0"
    whole, _, fraction = time.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return f"{seconds}.{fraction.ljust(9, '0')}"
