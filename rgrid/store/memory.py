"""The fakes: blobs and logs in memory, for tests of what stands on them. The contract suite holds them to Postgres."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from rgrid.domain.dependencies import Lock
from rgrid.domain.ids import Digest, JobId, Owner
from rgrid.errors import Code, RGridError
from rgrid.store.ports import LogPiece, LogTail, Stream


class MemoryBlobs:
    """`BlobStore` in a dict."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._blobs: dict[Digest, bytes] = {}
        self._owners: set[tuple[Digest, Owner]] = set()

    def put(self, digest: Digest, pieces: Iterable[bytes], *, owner: Owner, limit: int) -> int:
        """Store the bytes."""
        data = b"".join(pieces)
        if len(data) > limit:
            raise RGridError(Code.INPUT_TOO_LARGE)
        if hashlib.sha256(data).hexdigest() != digest:
            raise RGridError(Code.DIGEST_MISMATCH)
        self._blobs[digest] = data
        self._owners.add((digest, owner))
        return len(data)

    def store_output(self, source: Path | IO[bytes], *, owner: Owner) -> tuple[Digest, int]:
        """Store a file."""
        if isinstance(source, Path):
            with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                return self.store_output(file, owner=owner)
        source.seek(0)
        data = source.read()
        digest = Digest(hashlib.sha256(data).hexdigest())
        return digest, self.put(digest, [data], owner=owner, limit=len(data))

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Give the bytes."""
        if digest not in self._blobs:
            raise RGridError(Code.NOT_FOUND)
        return iter([self._blobs[digest]] if self._blobs[digest] else [])

    def missing(self, digests: Iterable[Digest], *, owner: Owner) -> set[Digest]:
        """Return those that `owner` has not put."""
        return {digest for digest in digests if (digest, owner) not in self._owners}

    def size(self, digest: Digest, *, owner: Owner) -> int | None:
        """Return how many bytes there are."""
        return len(self._blobs[digest]) if (digest, owner) in self._owners else None


class MemoryLogs:
    """`LogStore` in a dict."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._pieces: dict[tuple[JobId, int], dict[int, LogPiece]] = {}

    def append(self, job: JobId, attempt: int, pieces: Sequence[LogPiece]) -> None:
        """Store pieces."""
        mine = self._pieces.setdefault((job, attempt), {})
        for piece in pieces:
            mine.setdefault(piece.seq, piece)

    def tail(self, job: JobId, attempt: int) -> LogTail:
        """Return where the log ends."""
        mine = self._sorted(job, attempt)
        if not mine:
            return LogTail()
        ends = {p.stream: p.offset + len(p.data) for p in mine}
        return LogTail(mine[-1].seq, ends.get("stdout", 0), ends.get("stderr", 0), mine[-1].cursor)

    def since(self, job: JobId, *, attempt: int, seq: int, limit_bytes: int) -> list[LogPiece]:
        """Return what came after piece `seq`."""
        found: list[LogPiece] = []
        size = 0
        for piece in self._sorted(job, attempt):
            if piece.seq > seq:
                size += len(piece.data)
                if found and size > limit_bytes:
                    break
                found.append(piece)
        return found

    def read(self, job: JobId, *, attempt: int, stream: Stream, offset: int, limit_bytes: int) -> bytes:
        """Return a range of one stream."""
        data = b"".join(p.data for p in self._sorted(job, attempt) if p.stream == stream)
        return data[offset : offset + limit_bytes]

    def _sorted(self, job: JobId, attempt: int) -> list[LogPiece]:
        return [piece for _, piece in sorted(self._pieces.get((job, attempt), {}).items())]


class MemoryLocks:
    """`LockStore` in two dicts."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._resolved: dict[str, Lock] = {}
        self._of_job: dict[JobId, Lock] = {}

    def find(self, job: JobId, key: str) -> Lock | None:
        """Return the job's lock, else the key's."""
        found = self._of_job.get(job) or self._resolved.get(key)
        if found is not None:
            self._of_job.setdefault(job, found)
        return found

    def keep(self, job: JobId, key: str, lock: Lock) -> Lock:
        """Keep the first."""
        self._resolved.setdefault(key, lock)
        found = self.find(job, key)
        assert found is not None
        return found
