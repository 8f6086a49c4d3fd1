"""One suite against every blob store."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rgrid.domain.ids import Digest, Owner
from rgrid.errors import Code, RGridError
from rgrid.store.memory import MemoryBlobs
from rgrid.store.ports import BlobStore

ME, YOU = Owner("me"), Owner("you")
LIMIT = 16 * 1024**2


@pytest.fixture(params=["memory", "postgres"])
def blobs(request: pytest.FixtureRequest) -> BlobStore:
    if request.param == "memory":
        return MemoryBlobs()
    from rgrid.store.blobs import PostgresBlobs

    return PostgresBlobs(request.getfixturevalue("engine"))


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [0, 1, 1024**2, 1024**2 + 1, 3 * 1024**2 + 7])
def test_what_is_put_comes_back(blobs: BlobStore, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert blobs.put(digest(data), cut(data, 70_000), owner=ME, limit=LIMIT) == size
    assert b"".join(blobs.open(digest(data))) == data
    assert blobs.size(digest(data), owner=ME) == size


def test_other_bytes_leave_nothing(blobs: BlobStore) -> None:
    with pytest.raises(RGridError) as caught:
        blobs.put(digest(b"a"), [b"b"], owner=ME, limit=LIMIT)
    assert caught.value.code is Code.DIGEST_MISMATCH
    assert blobs.missing([digest(b"a"), digest(b"b")], owner=ME) == {digest(b"a"), digest(b"b")}
    with pytest.raises(RGridError):
        blobs.open(digest(b"a"))


def test_too_many_bytes_leave_nothing(blobs: BlobStore) -> None:
    with pytest.raises(RGridError) as caught:
        blobs.put(digest(b"abc"), [b"ab", b"c"], owner=ME, limit=2)
    assert caught.value.code is Code.INPUT_TOO_LARGE
    assert blobs.size(digest(b"abc"), owner=ME) is None


def test_knowing_a_digest_is_not_having_the_bytes(blobs: BlobStore) -> None:
    blobs.put(digest(b"secret"), [b"secret"], owner=ME, limit=LIMIT)
    assert blobs.size(digest(b"secret"), owner=YOU) is None
    assert blobs.missing([digest(b"secret")], owner=YOU) == {digest(b"secret")}
    with pytest.raises(RGridError):
        blobs.put(digest(b"secret"), [b"guess"], owner=YOU, limit=LIMIT)
    assert blobs.missing([digest(b"secret")], owner=YOU) == {digest(b"secret")}
    blobs.put(digest(b"secret"), [b"secret"], owner=YOU, limit=LIMIT)
    assert blobs.missing([digest(b"secret")], owner=YOU) == set()


def test_many_at_once_are_one(blobs: BlobStore) -> None:
    data = b"x" * 2 * 1024**2
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda _: blobs.put(digest(data), [data], owner=ME, limit=LIMIT), range(8)))
    assert sizes == [len(data)] * 8
    assert b"".join(blobs.open(digest(data))) == data


@pytest.mark.parametrize("size", [0, 1, 2 * 1024**2 + 3])
def test_a_file_is_stored_as_it_is(blobs: BlobStore, tmp_path: Path, size: int) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(bytes(i % 251 for i in range(size)))
    for _ in range(2):
        assert blobs.store_output(path, owner=ME) == (digest(path.read_bytes()), size)
    with path.open("rb") as file:
        file.read(1)
        assert blobs.store_output(file, owner=YOU) == (digest(path.read_bytes()), size)
    assert b"".join(blobs.open(digest(path.read_bytes()))) == path.read_bytes()
    assert blobs.size(digest(path.read_bytes()), owner=YOU) == size


def test_a_link_is_never_followed(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        blobs.store_output(tmp_path / "out.txt", owner=ME)
    assert blobs.missing([digest(b"secret")], owner=ME) == {digest(b"secret")}
