"""One suite against every log store."""

import pytest

from rgrid.domain.ids import JobId
from rgrid.store.memory import MemoryLogs
from rgrid.store.ports import LogPiece, LogStore, LogTail, Stream

JOB = JobId("j1")


@pytest.fixture(params=["memory", "postgres"])
def logs(request: pytest.FixtureRequest) -> LogStore:
    if request.param == "memory":
        return MemoryLogs()
    from sqlalchemy import text

    from rgrid.store.logs import PostgresLogs

    engine = request.getfixturevalue("engine")
    with engine.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO jobs (id, owner, name, state, spec, cpu_millis, memory_bytes, submitted_at, queued_at)"
                " VALUES ('j1', 'me', 'x', 'queued', '{}', 1, 1, now(), now())"
            )
        )
        tx.execute(
            text(
                "INSERT INTO attempts (job_id, number, state, lease, node, term, assigned_at)"
                " VALUES ('j1', 1, 'running', '1.1', 'n', 1, now())"
            )
        )
    return PostgresLogs(engine)


def fill(logs: LogStore) -> list[LogPiece]:
    pieces = [
        LogPiece("stdout", b"one\n", "t1", 1, 1, 0),
        LogPiece("stderr", b"oops\n", "t2", 1, 2, 0),
        LogPiece("stdout", b"two\x00\xff\n", "t3", 1, 3, 4),
    ]
    logs.append(JOB, 1, pieces[:2])
    logs.append(JOB, 1, pieces[2:])
    return pieces


def test_pieces_come_back_in_order(logs: LogStore) -> None:
    pieces = fill(logs)
    assert logs.since(JOB, attempt=1, seq=0, limit_bytes=1000) == pieces
    assert logs.since(JOB, attempt=1, seq=2, limit_bytes=1000) == pieces[2:]
    assert logs.since(JOB, attempt=1, seq=3, limit_bytes=1000) == []


def test_a_limit_gives_at_least_one_piece(logs: LogStore) -> None:
    pieces = fill(logs)
    assert logs.since(JOB, attempt=1, seq=0, limit_bytes=1) == pieces[:1]
    assert logs.since(JOB, attempt=1, seq=0, limit_bytes=9) == pieces[:2]


def test_told_twice_is_stored_once(logs: LogStore) -> None:
    fill(logs)
    fill(logs)
    assert len(logs.since(JOB, attempt=1, seq=0, limit_bytes=1000)) == 3


@pytest.mark.parametrize(("offset", "limit"), [(0, 100), (0, 2), (2, 3), (4, 1), (5, 100), (10, 5), (0, 0)])
def test_ranges_of_a_stream(logs: LogStore, offset: int, limit: int) -> None:
    fill(logs)
    whole = b"one\ntwo\x00\xff\n"
    assert (
        logs.read(JOB, attempt=1, stream="stdout", offset=offset, limit_bytes=limit) == whole[offset : offset + limit]
    )
    assert logs.read(JOB, attempt=1, stream="stderr", offset=0, limit_bytes=100) == b"oops\n"


def test_the_tail_says_where_to_go_on(logs: LogStore) -> None:
    assert logs.tail(JOB, 1) == LogTail()
    fill(logs)
    assert logs.tail(JOB, 1) == LogTail(3, 10, 5, "t3")


def test_two_streams_stay_apart_however_many_pieces(logs: LogStore) -> None:
    ends: dict[Stream, int] = {"stdout": 0, "stderr": 0}
    whole: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
    pieces: list[LogPiece] = []
    for seq in range(1, 1201):  # more than one page of rows
        stream: Stream = "stderr" if seq % 3 == 0 else "stdout"
        data = b"%d\n" % seq
        pieces.append(LogPiece(stream, data, f"t{seq}", 1, seq, ends[stream]))
        ends[stream] += len(data)
        whole[stream] += data
    for at in range(0, len(pieces), 100):
        logs.append(JOB, 1, pieces[at : at + 100])
    seen: list[LogPiece] = []
    while more := logs.since(JOB, attempt=1, seq=seen[-1].seq if seen else 0, limit_bytes=700):
        assert sum(len(piece.data) for piece in more) <= 700
        seen += more
    assert seen == pieces
    for stream, data in whole.items():
        for offset in (0, 1, 1777, len(data) - 1):
            found = logs.read(JOB, attempt=1, stream=stream, offset=offset, limit_bytes=333)
            assert found == data[offset : offset + 333]
    assert logs.tail(JOB, 1) == LogTail(1200, ends["stdout"], ends["stderr"], "t1200")


def test_attempts_stay_apart(logs: LogStore) -> None:
    fill(logs)
    assert logs.tail(JOB, 2) == LogTail()
    assert logs.since(JOB, attempt=2, seq=0, limit_bytes=1000) == []
    assert logs.read(JOB, attempt=2, stream="stdout", offset=0, limit_bytes=1000) == b""
