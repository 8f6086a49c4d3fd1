"""What only the Postgres blob store promises: its rows, its connections, its locks."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from rgrid.domain.ids import Digest, Owner
from rgrid.errors import Code, RGridError
from rgrid.store.blobs import CHUNK_BYTES, PostgresBlobs

ME, YOU = Owner("me"), Owner("you")
LIMIT = 16 * 1024**2


@pytest.fixture
def blobs(engine: Engine) -> PostgresBlobs:
    return PostgresBlobs(engine)


def digest(data: bytes) -> Digest:
    return Digest(sha256(data).hexdigest())


def rows(engine: Engine) -> tuple[int, int, int]:
    with engine.connect() as tx:
        counts = [tx.execute(text(f"SELECT count(*) FROM {t}")) for t in ("blobs", "blob_chunks", "blob_owners")]
        first, second, third = (int(count.scalar_one()) for count in counts)
        return first, second, third


def pool(engine: Engine) -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined]


def delete(engine: Engine, name: str) -> None:
    """Remove a blob as a clean-up would."""
    with engine.begin() as tx:
        tx.execute(text("DELETE FROM blobs WHERE digest = :digest"), {"digest": name})


def test_bytes_are_cut_into_chunks_and_kept_once(blobs: PostgresBlobs, engine: Engine) -> None:
    data = bytes(i % 251 for i in range(3 * CHUNK_BYTES + 5))
    for who in (ME, YOU, ME):
        blobs.put(digest(data), [data], owner=who, limit=LIMIT)
    assert rows(engine) == (1, 4, 2)
    blobs.put(digest(b""), [], owner=ME, limit=LIMIT)
    assert rows(engine) == (2, 4, 3)
    assert list(blobs.open(digest(b""))) == []


@pytest.mark.parametrize("size", [10, 3 * CHUNK_BYTES])
def test_wrong_or_broken_off_bytes_never_reach_the_database(blobs: PostgresBlobs, engine: Engine, size: int) -> None:
    data = b"x" * size

    def broken() -> Iterator[bytes]:
        yield data[:-1]
        raise ConnectionResetError

    with pytest.raises(RGridError) as caught:
        blobs.put(digest(data), [data, b"!"], owner=ME, limit=LIMIT)
    assert caught.value.code is Code.DIGEST_MISMATCH
    with pytest.raises(ConnectionResetError):
        blobs.put(digest(data), broken(), owner=ME, limit=LIMIT)
    with pytest.raises(RGridError):
        blobs.put(digest(data), [data], owner=ME, limit=size - 1)
    assert rows(engine) == (0, 0, 0)


def test_one_who_sends_slowly_holds_nobody_up(blobs: PostgresBlobs, engine: Engine) -> None:
    data = b"a library that everybody sends"
    began, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield data[:5]
        began.set()
        go_on.wait(20)
        yield data[5:]

    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(blobs.put, digest(data), slowly(), owner=ME, limit=LIMIT)
        assert began.wait(10)
        try:
            assert pool(engine) == 0, "no connection is held while bytes come"
            quick = threads.submit(blobs.put, digest(data), [data], owner=YOU, limit=LIMIT)
            assert quick.result(10) == len(data)
        finally:
            go_on.set()
        assert slow.result(10) == len(data)
    assert rows(engine) == (1, 1, 2)


def test_one_who_reads_slowly_holds_no_connection(blobs: PostgresBlobs, engine: Engine) -> None:
    data = b"y" * (CHUNK_BYTES + 1)
    blobs.put(digest(data), [data], owner=ME, limit=LIMIT)
    pieces = blobs.open(digest(data))
    assert len(next(pieces)) == CHUNK_BYTES
    assert pool(engine) == 0
    delete(engine, digest(data))
    with pytest.raises(RGridError) as caught:
        next(pieces)
    assert caught.value.code is Code.NOT_FOUND


def test_an_output_that_is_there_is_not_written_again(blobs: PostgresBlobs, engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"z" * (2 * CHUNK_BYTES + 1))
    found = blobs.store_output(path, owner=ME)
    assert found == (digest(path.read_bytes()), path.stat().st_size)
    assert blobs.store_output(path, owner=YOU) == found
    assert rows(engine) == (1, 3, 2)


def test_an_output_that_changes_between_its_readings_leaves_nothing(blobs: PostgresBlobs, engine: Engine) -> None:
    class Changing(BytesIO):
        def seek(self, *at: int) -> int:
            if self.tell() > 0:
                self.getbuffer()[0] = ord("!")
            return super().seek(*at)

    with pytest.raises(RGridError) as caught:
        blobs.store_output(Changing(b"as it was"), owner=ME)
    assert caught.value.code is Code.DIGEST_MISMATCH
    assert rows(engine) == (0, 0, 0)


def test_what_is_deleted_while_it_is_put_is_stored_anew(
    blobs: PostgresBlobs, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rgrid.store import blobs as module

    blobs.put(digest(b"a"), [b"a"], owner=ME, limit=LIMIT)
    grant, times = module._grant, []

    def deleted_just_before(*args: Any) -> bool:
        delete(engine, digest(b"a"))
        times.append(1)
        return grant(*args)

    monkeypatch.setattr(module, "_grant", deleted_just_before)
    assert blobs.put(digest(b"a"), [b"a"], owner=YOU, limit=LIMIT) == 1
    assert times == [1]
    assert b"".join(blobs.open(digest(b"a"))) == b"a"
    assert rows(engine) == (1, 1, 1)


def test_no_room_for_the_spool_is_said(blobs: PostgresBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr("rgrid.store.blobs.SpooledTemporaryFile", lambda **_: full.open("wb", buffering=0))
    with pytest.raises(RGridError) as caught:
        blobs.put(digest(b"a"), [b"a"], owner=ME, limit=LIMIT)
    assert caught.value.code is Code.DISK_FULL


def test_many_owners_at_once_are_one_blob(blobs: PostgresBlobs, engine: Engine) -> None:
    data = b"w" * (2 * CHUNK_BYTES)
    put: Callable[[int], int] = lambda i: blobs.put(digest(data), [data], owner=Owner(f"o{i % 4}"), limit=LIMIT)  # noqa: E731
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(put, range(16))) == [len(data)] * 16
    assert rows(engine) == (1, 2, 4)
