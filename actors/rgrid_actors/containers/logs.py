"""The engine's log stream, taken apart: frames of two streams, each with the time the engine kept it under.

Within one stream these times only grow, but not across the two: each is copied by a thread of the engine's own, which
looks at the clock and then waits for its turn to write, so an older line of one may stand behind younger ones of the
other. So a place in the log is a place in each stream: its last time, and how many entries bore it, written like
`1=2026-01-01T00:00:00.123456789Z#2,2=2026-01-01T00:00:00.120000000Z#1`. Reading again from there asks the engine for
everything since the earlier of the two, and skips in each stream what was seen of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Place:
    """How far one stream was read."""

    time: str = ""
    #: Entries of exactly that time that were seen.
    count: int = 0

    def after(self, time: str) -> "_Place":
        """Return the place behind one more entry."""
        return _Place(time, self.count + 1 if time == self.time else 1)


def entries(pieces: Iterable[bytes], cursor: str) -> Iterator[LogEntry]:
    """Give what comes after `cursor`."""
    seen = _parse(cursor)
    #: Where this reading is, which begins before what was seen; and how far all readings have come.
    at, come = dict.fromkeys(_STREAMS.values(), _Place()), dict(seen)
    for stream, frame in frames(pieces):
        word, _, data = frame.partition(b" ")
        time = word.decode("ascii", "replace")
        at[stream] = at[stream].after(time)
        before = seen[stream]
        if time < before.time or (time == before.time and at[stream].count <= before.count):
            continue
        come[stream] = at[stream]
        yield LogEntry(stream, data, _write(come))


def since(cursor: str) -> str:
    """Return the engine's `since` parameter for a cursor: seconds and nanoseconds since the epoch."""
    time = min(place.time for place in _parse(cursor).values())
    if not time:  # of one stream nothing was seen: its first entry may be older than all of the other's
        return "0"
    whole, _, fraction = time.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return f"{seconds}.{fraction.ljust(9, '0')}"


def _parse(cursor: str) -> dict[Stream, _Place]:
    found = dict.fromkeys(_STREAMS.values(), _Place())
    for word in filter(None, cursor.split(",")):
        number, _, place = word.partition("=")
        time, _, count = place.partition("#")
        found[_STREAMS[int(number)]] = _Place(time, int(count))
    return found


def _write(places: dict[Stream, _Place]) -> str:
    told = ((number, places[stream]) for number, stream in _STREAMS.items())
    return ",".join(f"{number}={place.time}#{place.count}" for number, place in told if place.time)
