"""What a script needs from a package index, and the lock it was resolved to."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["python", "node"]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What was declared. Paths are those of inputs in the workspace."""

    kind: Kind
    #: Where it was declared, for people to read.
    source: str
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    #: Indexes the script asks for, allowed by the operator.
    indexes: tuple[str, ...] = ()
    #: A lock that came with it, used as it is.
    lock: str | None = None
    #: What the lock or a requirement refers to.
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lock:
    """Exactly what is installed: kept with the job, so that an attempt tomorrow runs what today's ran."""

    #: `requirements` (pins with hashes), `pylock` or `npm`.
    format: Literal["requirements", "pylock", "npm"]
    text: str
