"""Files into a workspace and out of it again."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from rgrid.domain.ids import Digest, Owner
from rgrid.domain.job import InputFile, OutputFile
from rgrid.store.memory import MemoryBlobs
from rgrid_actors import artifacts
from rgrid_actors.artifacts import Ids, InputError, OutputError, collect, lay_out

ME = Owner("me")
LIMIT = 10_000


def stored(blobs: MemoryBlobs, path: str, data: bytes, *, executable: bool = False) -> InputFile:
    digest = Digest(sha256(data).hexdigest())
    blobs.put(digest, [data], owner=ME, limit=LIMIT)
    return InputFile(path, digest, len(data), executable)


@pytest.fixture
def ids() -> Ids:
    return Ids(os.geteuid(), os.getegid())


def test_what_is_new_or_changed_is_an_output(tmp_path: Path, ids: Ids) -> None:
    blobs, workspace = MemoryBlobs(), tmp_path / "w"
    inputs = [stored(blobs, "s.py", b"script", executable=True), stored(blobs, "data/in.csv", b"old")]
    before = lay_out(workspace, inputs, blobs, ids)
    assert (workspace / "s.py").stat().st_mode & 0o111
    assert collect(workspace, before, blobs, ME, LIMIT) == ()
    (workspace / "data/in.csv").write_bytes(b"changed")
    (workspace / "out").mkdir()
    (workspace / "out/run.sh").write_bytes(b"")
    (workspace / "out/run.sh").chmod(0o755)
    (workspace / "__pycache__").mkdir()
    (workspace / "__pycache__/s.pyc").write_bytes(b"nobody asked for it")
    found = {file.path: file for file in collect(workspace, before, blobs, ME, LIMIT)}
    assert found == {
        "data/in.csv": OutputFile("data/in.csv", Digest(sha256(b"changed").hexdigest()), 7),
        "out/run.sh": OutputFile("out/run.sh", Digest(sha256(b"").hexdigest()), 0, executable=True),
    }
    assert b"".join(blobs.open(found["data/in.csv"].digest)) == b"changed"


def test_what_is_no_file_is_no_output(tmp_path: Path, ids: Ids) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    blobs, workspace = MemoryBlobs(), tmp_path / "w"
    before = lay_out(workspace, [], blobs, ids)
    (workspace / "link").symlink_to(tmp_path / "secret")
    (workspace / "folder").symlink_to(tmp_path)
    os.mkfifo(workspace / "pipe")
    assert collect(workspace, before, blobs, ME, LIMIT) == ()


def test_more_than_the_job_may_use_is_refused(tmp_path: Path, ids: Ids) -> None:
    blobs, workspace = MemoryBlobs(), tmp_path / "w"
    before = lay_out(workspace, [], blobs, ids)
    for name in ("a", "b"):
        (workspace / name).write_bytes(b"x" * 6)
    with pytest.raises(OutputError, match="more than the 11 bytes"):
        collect(workspace, before, blobs, ME, 11)


def test_more_files_than_anybody_wants_are_refused(tmp_path: Path, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_OUTPUTS", 2)
    blobs, workspace = MemoryBlobs(), tmp_path / "w"
    before = lay_out(workspace, [], blobs, ids)
    for name in ("a", "b", "c"):
        (workspace / name).touch()
    with pytest.raises(OutputError, match="more than 2 files"):
        collect(workspace, before, blobs, ME, LIMIT)
    assert artifacts.disk_usage(workspace) >= 3 * 4096, "an empty file costs its file system something"


def test_an_input_larger_than_it_was_said_to_be_is_refused(tmp_path: Path, ids: Ids) -> None:
    blobs = MemoryBlobs()
    honest = stored(blobs, "s.py", b"x" * 100)
    with pytest.raises(InputError, match="larger than the 1 bytes"):
        lay_out(tmp_path / "w", [replace(honest, size=1)], blobs, ids)


def test_laying_out_stops_when_nobody_wants_it(tmp_path: Path, ids: Ids) -> None:
    blobs = MemoryBlobs()
    inputs = [stored(blobs, name, name.encode()) for name in ("a", "b", "c")]
    asked = iter([False, True])
    with pytest.raises(InputError, match="given up"):
        lay_out(tmp_path / "w", inputs, blobs, ids, lambda: next(asked))
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["a"]


def test_an_input_that_is_gone_is_named(tmp_path: Path, ids: Ids) -> None:
    with pytest.raises(InputError, match=r"s\.py"):
        lay_out(tmp_path / "w", [InputFile("s.py", Digest("0" * 64), 1)], MemoryBlobs(), ids)
