"""Blobs in Postgres, in chunks: works on any number of nodes with no further service.

A blob is written in one transaction, so nobody ever sees half of one. Its bytes are stored once, however many owners
have put them; each owner must have shown the bytes, because knowing a digest is not the same.
"""

import hashlib
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, Engine, delete, func, select
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
        """Store the bytes while they come; they are hashed on the way, and nothing stays of bytes that are wrong."""
        with translate_errors(), self._engine.begin() as tx:
            new = insert(blobs).values(digest=digest, size=0, created_at=func.now()).on_conflict_do_nothing()
            store = tx.execute(new).rowcount == 1
            hasher, size = hashlib.sha256(), 0
            for number, chunk in enumerate(_chunks(pieces)):
                hasher.update(chunk)
                size += len(chunk)
                if size > limit:
                    raise RGridError(Code.INPUT_TOO_LARGE, f"the input is larger than the {limit} bytes allowed")
                if store:
                    tx.execute(insert(blob_chunks).values(digest=digest, number=number, data=chunk))
            if hasher.hexdigest() != digest:
                raise RGridError(
                    Code.DIGEST_MISMATCH, f"the bytes have digest {hasher.hexdigest()}, not {digest}", digest=digest
                )
            if store:
                tx.execute(blobs.update().where(blobs.c.digest == digest).values(size=size))
            tx.execute(insert(blob_owners).values(digest=digest, owner=owner).on_conflict_do_nothing())
            return size

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

    def delete(self, digest: Digest) -> None:
        """Remove a blob that nothing names any more."""
        with translate_errors(), self._engine.begin() as tx:
            tx.execute(delete(blobs).where(blobs.c.digest == digest))

    def _read(self, digest: Digest, size: int) -> Iterator[bytes]:
        number = 0
        while number * CHUNK_BYTES < size:
            at = (blob_chunks.c.digest == digest, blob_chunks.c.number == number)
            with translate_errors(), self._engine.connect() as tx:
                yield bytes(tx.execute(select(blob_chunks.c.data).where(*at)).scalar_one())
            number += 1


def missing_blobs(tx: Connection, digests: set[Digest], owner: Owner) -> set[Digest]:
    """Return those that `owner` has not put, inside somebody's transaction."""
    if not digests:
        return set()
    wanted = select(blob_owners.c.digest).where(blob_owners.c.digest.in_(digests), blob_owners.c.owner == owner)
    return digests - {Digest(digest) for digest in tx.execute(wanted).scalars()}


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut what comes in any sizes into chunks of one size, the last one smaller."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)
