"""Blobs in Postgres, in chunks: works on any number of nodes with no further service.

A blob is written in one transaction, so nobody ever sees half of one. Its bytes are stored once, however many owners
have put them; each owner must have shown the bytes, because knowing a digest is not the same.

That transaction holds the digest against everyone else who has the same bytes, and a connection. So it begins only
when all the bytes are in a file here: what comes from a network waits in a spool first, however slowly it comes, and
bytes that are wrong never reach the database at all.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rgrid.domain.ids import Digest, Owner
from rgrid.errors import Code, RGridError
from rgrid.store.engine import translate_errors
from rgrid.store.tables import blob_chunks, blob_owners, blobs

CHUNK_BYTES = 1024 * 1024


class PostgresBlobs:
    """`BlobStore` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def put(self, digest: Digest, pieces: Iterable[bytes], *, owner: Owner, limit: int) -> int:
        """Spool and hash the bytes while they come, then store them; of bytes that are wrong nothing stays."""
        with _disk_errors(), SpooledTemporaryFile(max_size=CHUNK_BYTES) as spool:
            hasher, size = hashlib.sha256(), 0
            for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise RGridError(Code.INPUT_TOO_LARGE, f"the input is larger than the {limit} bytes allowed")
                hasher.update(piece)
                spool.write(piece)
            _check(hasher.hexdigest(), digest)
            spool.seek(0)
            self._write(digest, size, spool, owner)
        return size

    def store_output(self, source: Path | IO[bytes], *, owner: Owner) -> tuple[Digest, int]:
        """Store a file that is here already: read once to hash it, and again only when its bytes are new.

        A path that is a symbolic link is refused: whoever left the file behind may be hostile.
        """
        if isinstance(source, Path):
            with _disk_errors(), os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                return self.store_output(file, owner=owner)
        hasher, size = hashlib.sha256(), 0
        source.seek(0)
        while chunk := source.read(CHUNK_BYTES):
            hasher.update(chunk)
            size += len(chunk)
        digest = Digest(hasher.hexdigest())
        source.seek(0)
        self._write(digest, size, source, owner)
        return digest, size

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Give the bytes a chunk at a time, holding no transaction between them."""
        with translate_errors(), self._engine.connect() as tx:
            found = tx.execute(select(blobs.c.size).where(blobs.c.digest == digest)).first()
        if found is None:
            raise RGridError(Code.NOT_FOUND, f"no blob has digest {digest}", digest=digest)
        return self._read(digest, found.size)

    def missing(self, digests: Iterable[Digest], *, owner: Owner) -> set[Digest]:
        """Return those that `owner` has not put."""
        with translate_errors(), self._engine.connect() as tx:
            return missing_blobs(tx, set(digests), owner)

    def size(self, digest: Digest, *, owner: Owner) -> int | None:
        """Return how many bytes there are, or None when `owner` has not put them."""
        wanted = select(blobs.c.size).join(blob_owners).where(blobs.c.digest == digest, blob_owners.c.owner == owner)
        with translate_errors(), self._engine.connect() as tx:
            found = tx.execute(wanted).first()
        return None if found is None else int(found.size)

    def _write(self, digest: Digest, size: int, file: IO[bytes], owner: Owner) -> None:
        """Store a file's bytes unless they are there. Of two at once the second waits and finds the first's."""
        with translate_errors(), self._engine.begin() as tx:
            new = insert(blobs).values(digest=digest, size=size, created_at=func.now()).on_conflict_do_nothing()
            if tx.execute(new).rowcount == 1:
                hasher = hashlib.sha256()  # once more: a file may change between its two readings
                for number, chunk in enumerate(iter(lambda: file.read(CHUNK_BYTES), b"")):
                    hasher.update(chunk)
                    tx.execute(insert(blob_chunks).values(digest=digest, number=number, data=chunk))
                _check(hasher.hexdigest(), digest)
                tx.execute(insert(blob_owners).values(digest=digest, owner=owner))
                return
            if _grant(tx, digest, owner):
                return
        self._write(digest, size, file, owner)  # it was deleted since it was found: nothing has been read of the file

    def _read(self, digest: Digest, size: int) -> Iterator[bytes]:
        for number in range(-(-size // CHUNK_BYTES)):
            at = (blob_chunks.c.digest == digest, blob_chunks.c.number == number)
            with translate_errors(), self._engine.connect() as tx:
                data = tx.execute(select(blob_chunks.c.data).where(*at)).scalar_one_or_none()
            if data is None:
                raise RGridError(Code.NOT_FOUND, f"the blob {digest} was removed while it was read", digest=digest)
            yield bytes(data)  # out here: whoever takes it may be slow, and would hold a connection all the while


def missing_blobs(tx: Connection, digests: set[Digest], owner: Owner) -> set[Digest]:
    """Return those that `owner` has not put, inside somebody's transaction."""
    if not digests:
        return set()
    wanted = select(blob_owners.c.digest).where(blob_owners.c.digest.in_(digests), blob_owners.c.owner == owner)
    return digests - {Digest(digest) for digest in tx.execute(wanted).scalars()}


def _grant(tx: Connection, digest: Digest, owner: Owner) -> bool:
    # Put again it is young again: bytes that nothing names yet are kept for a while, on which their putter relies.
    if tx.execute(update(blobs).where(blobs.c.digest == digest).values(created_at=func.now())).rowcount == 0:
        return False
    tx.execute(insert(blob_owners).values(digest=digest, owner=owner).on_conflict_do_nothing())
    return True


def _check(found: str, digest: Digest) -> None:
    if found != digest:
        raise RGridError(Code.DIGEST_MISMATCH, f"the bytes have digest {found}, not {digest}", digest=digest)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise RGridError(Code.DISK_FULL, "there is no space left here for a blob on its way to the store") from error
