"""What a job asks for and what a node has, and how people write it: `512M`, `1.5GiB`, `0.5`, `90s`.

CPU is counted in thousandths, memory in bytes: whole numbers add up exactly however many jobs come and go.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

MIB = 1024**2
GIB = 1024**3

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{p}{suffix}": 1024**n for n, p in enumerate("kmgt", 1) for suffix in ("", "ib")},
    **{f"{p}b": 1000**n for n, p in enumerate("kmgt", 1)},
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|[smhd])", re.ASCII)
#: Less than this Docker itself refuses.
MIN_MEMORY_BYTES = 6 * MIB
MIN_CPU_MILLIS = 10


class QuantityError(ValueError):
    """A quantity nobody can understand; the message names it and shows ones that work."""


def parse_memory(text: str) -> int:
    """Return bytes for `512M`, `1.5GiB`, `2g`, `800MB` (1000-based) or a plain number of bytes."""
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise QuantityError(f"{text!r} is less than the smallest amount of memory a container can have (6M)")
    return size


def parse_size(text: str) -> int:
    """Return bytes, of a file or a disk, written as memory is; there must be some."""
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise QuantityError(f"{text!r} is not an amount of bytes; write for example 512M, 1.5GiB or 2G")
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < 1:
        raise QuantityError(f"{text!r} is nothing; write for example 512M, 1.5GiB or 2G")
    return size


def parse_cpus(text: str | float) -> int:
    """Return thousandths of a CPU for `0.5`, `2`, `500m`."""
    word = str(text).strip().lower()
    found = _NUMBER.fullmatch(word)
    if found is None or found[2] not in {"", "m"}:
        raise QuantityError(f"{word!r} is not a number of CPUs; write for example 1, 0.5 or 500m")
    millis = round(float(found[1]) * (1 if found[2] else 1000))
    if millis < MIN_CPU_MILLIS:
        raise QuantityError(f"{word!r} is less than the smallest share of a CPU a container can have (0.01)")
    return millis


def parse_duration(text: str | float) -> timedelta:
    """Return a duration for `300`, `90s`, `5m`, `1h30m`; it must be longer than nothing."""
    word = str(text).strip().lower()
    plain = _NUMBER.fullmatch(word)
    if plain is not None and plain[2] in _SECONDS:
        seconds = float(plain[1]) * _SECONDS[plain[2]]
    elif word and not _DURATION_PART.sub("", word):
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(word))
    else:
        raise QuantityError(f"{word!r} is not a duration; write for example 300, 90s, 5m or 1h30m")
    if not 0 < seconds < 10 * 365 * 86400:
        raise QuantityError(f"{word!r} is not a time limit; write one longer than nothing, for example 300 or 5m")
    return timedelta(seconds=seconds)


def format_memory(size: int) -> str:
    """Write bytes as people read them: `512 MiB`."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B"


def write_size(size: int) -> str:
    """Write bytes exactly, in a form that can be typed back: `512MiB`."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def write_duration(length: timedelta) -> str:
    """Write a duration exactly, in a form that can be typed back: `1h30m`."""
    left = round(length.total_seconds() * 1000)
    words = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        if count := left // size:
            words, left = f"{words}{count}{unit}", left % size
    return words or "0s"


def format_cpus(millis: int) -> str:
    """Write thousandths of a CPU as people read them: `0.5`."""
    return f"{millis / 1000:g}"


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of what is shared on a node."""

    cpu_millis: int
    memory_bytes: int

    def __add__(self, other: "Resources") -> "Resources":
        """Take both together."""
        return Resources(self.cpu_millis + other.cpu_millis, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: "Resources") -> "Resources":
        """Return what is left without `other`; it may be less than nothing on a node that shrank."""
        return Resources(self.cpu_millis - other.cpu_millis, self.memory_bytes - other.memory_bytes)

    def fits(self, room: "Resources") -> bool:
        """Say whether this much is there in `room`."""
        return self.cpu_millis <= room.cpu_millis and self.memory_bytes <= room.memory_bytes


NOTHING = Resources(0, 0)
#: What a job gets that asks for nothing.
DEFAULT_RESOURCES = Resources(cpu_millis=1000, memory_bytes=512 * MIB)
DEFAULT_TIMEOUT = timedelta(seconds=300)
