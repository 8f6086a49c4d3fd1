"""What RGrid needs from the place where the truth is kept: one narrow protocol per concern.

The implementations are in `postgres` modules beside this one; they block, and are called from threads. All raise
`RGridError` (`database-unreachable`, `database-refused`, `disk-full`) when the store itself fails, and keep the cause.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Literal, Protocol

from rgrid.domain.dependencies import Lock
from rgrid.domain.ids import Digest, JobId, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, JobSpec
from rgrid.domain.lifecycle import State
from rgrid.scheduling.commands import Write
from rgrid.scheduling.events import CancelRequested, JobRestored, JobSubmitted, NodeRestored
from rgrid.wire import EventView, JobPage, JobView, KeyView, NodeView, OutputView, Submission

Stream = Literal["stdout", "stderr"]
#: Everything a scheduler learns from the store, as ordinary events.
Restored = JobRestored | NodeRestored
News = JobSubmitted | CancelRequested


class DeposedError(Exception):
    """Another scheduler has begun a later term; this one must write nothing more."""


class StaleWriteError(Exception):
    """A guarded write found no row: what the scheduler remembers and what is stored disagree. Nothing was written."""


class Ledger(Protocol):
    """The scheduler's side: the only writer of a job's life."""

    def begin_term(self, pid: int) -> int:
        """Raise the grid's term and return it; from now on no earlier scheduler can write."""
        ...

    def restore(self) -> list[Restored]:
        """Return all live jobs and all known nodes."""
        ...

    def news(self, jobs: Sequence[JobId] | None = None, *, known: frozenset[JobId] = frozenset()) -> list[News]:
        """Return new jobs and cancel requests: of these jobs, or of all live ones that are not `known`."""
        ...

    def commit(self, writes: Sequence[Write], *, term: int, now: datetime) -> None:
        """Write all or nothing; tell those who wait. Raises `DeposedError`, `StaleWriteError`."""
        ...

    def beat(self, *, term: int, heard: Mapping[NodeName, datetime]) -> None:
        """Note that the scheduler lives and when each node was last heard. Raises `DeposedError`."""
        ...

    def prune(self, *, term: int, before: datetime, limit: int) -> int:
        """Forget up to `limit` jobs that ended before, with all that is theirs, and bytes that nothing names any more.

        Returns how many jobs went. Raises `DeposedError`.
        """
        ...

    def orders(self, refs: Sequence[AttemptRef]) -> list[AttemptOrder]:
        """Return what executors need to run these attempts; attempts that are no longer current are left out."""
        ...


class BlobStore(Protocol):
    """Bytes by the sha256 of their content. Never changed once written."""

    def put(self, digest: Digest, pieces: Iterable[bytes], *, owner: Owner, limit: int) -> int:
        """Store the bytes and return their number; raises `digest-mismatch`, `input-too-large`."""
        ...

    def store_output(self, source: Path | IO[bytes], *, owner: Owner) -> tuple[Digest, int]:
        """Store a file that is here already, never through a link, unless its bytes are there; raises as `put` does."""
        ...

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Give the bytes in pieces; raises `not-found` before the first piece."""
        ...

    def missing(self, digests: Iterable[Digest], *, owner: Owner) -> set[Digest]:
        """Return those that `owner` has not put."""
        ...

    def size(self, digest: Digest, *, owner: Owner) -> int | None:
        """Return how many bytes there are, or None when `owner` has not put them."""
        ...


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of one stream, as it is stored and as it is read back."""

    stream: Stream
    data: bytes
    #: How far the engine's log has been read, when this piece is stored.
    cursor: str = ""
    attempt: int = 0
    seq: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class LogTail:
    """Where the stored log of an attempt ends."""

    #: Number of the last stored piece; 0 when there is none.
    seq: int = 0
    stdout: int = 0
    stderr: int = 0
    cursor: str = ""


class LogStore(Protocol):
    """Logs of attempts: two streams apart, in numbered pieces."""

    def append(self, job: JobId, attempt: int, pieces: Sequence[LogPiece]) -> None:
        """Store pieces, whose `seq` and `offset` their reader has set; a piece stored before changes nothing."""
        ...

    def tail(self, job: JobId, attempt: int) -> LogTail:
        """Return where a reader of the engine's log goes on after a restart."""
        ...

    def since(self, job: JobId, *, attempt: int, seq: int, limit_bytes: int) -> list[LogPiece]:
        """Return pieces of `attempt` with a `seq` greater than the given one, in order, up to a size (at least one)."""
        ...

    def read(self, job: JobId, *, attempt: int, stream: Stream, offset: int, limit_bytes: int) -> bytes:
        """Return the bytes of one stream from `offset` on, at most `limit_bytes`."""
        ...


class LockStore(Protocol):
    """What declarations of dependencies were resolved to, and which job runs with which lock."""

    def find(self, job: JobId, key: str) -> Lock | None:
        """Return the job's lock, else what `key` was resolved to (the job's from now on), else None."""
        ...

    def keep(self, job: JobId, key: str, lock: Lock) -> Lock:
        """Keep what `key` was resolved to, unless somebody was quicker; return what stands, the job's from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    owner: Owner
    #: An operator sees every owner's jobs.
    admin: bool = False
    key_id: str = ""


class JobStore(Protocol):
    """The gateway's side: records wishes and answers questions; never changes where a job is in its life.

    Everything is asked by a principal; what belongs to another owner is `job-not-found`.
    """

    def submit(
        self, who: Principal, submission: Submission, spec: JobSpec, *, idempotency_key: str | None = None
    ) -> tuple[JobView, bool]:
        """Insert the job with its inputs and its event, and notify, in one transaction; True when it is new.

        Raises `inputs-missing` (context `digests`), `idempotency-conflict`.
        """
        ...

    def get(self, who: Principal, job: str) -> JobView:
        """Return the job with its attempts; `job` may be the beginning of an id. Raises `job-ambiguous`."""
        ...

    def page(
        self,
        who: Principal,
        *,
        states: Sequence[State] = (),
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Return jobs newest first, by keyset."""
        ...

    def counts(self, who: Principal) -> dict[State, int]:
        """Return how many live jobs are in each state."""
        ...

    def cancel(self, who: Principal, job: str, *, now: bool) -> JobView:
        """Record the wish and notify the scheduler; asking for a job that ended changes nothing."""
        ...

    def events(self, who: Principal, job: str) -> list[EventView]:
        """Return what happened to the job, oldest first."""
        ...

    def outputs(self, who: Principal, job: str) -> list[OutputView]:
        """Return what the job's last ended attempt left behind."""
        ...

    def open_output(self, who: Principal, job: str, path: str) -> tuple[OutputView, Iterator[bytes]]:
        """Return one output and its bytes. Raises `output-not-found`."""
        ...

    def lock(self, who: Principal, job: str) -> Lock | None:
        """Return the lock a job runs with, or None where it has none (yet)."""
        ...

    def phase(self, job: JobId) -> tuple[State, int, str]:
        """Return a job's state, its current attempt, and what that one does on its way up."""
        ...

    def nodes(self) -> list[NodeView]:
        """Return every node on record with what runs on it."""
        ...


class KeyStore(Protocol):
    """API keys: stored hashed, shown once."""

    def create(self, owner: str, *, role: Literal["user", "admin"] = "user", name: str = "") -> KeyView:
        """Make a key; the answer is the only place its text is ever seen."""
        ...

    def all(self) -> list[KeyView]:
        """Return every key, newest first, without its text."""
        ...

    def revoke(self, key_id: str) -> KeyView:
        """Make a key useless from now on. Raises `not-found`."""
        ...

    def find(self, key: str) -> Principal | None:
        """Return whose key this is, or None when it is unknown or revoked."""
        ...
