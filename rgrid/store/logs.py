"""Logs in Postgres: numbered pieces of two streams, readable while they grow and after their node is gone."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Row, func, select, text
from sqlalchemy.dialects.postgresql import insert

from rgrid.domain.ids import JobId
from rgrid.store import channels
from rgrid.store.engine import translate_errors
from rgrid.store.ports import LogPiece, LogTail, Stream
from rgrid.store.tables import log_chunks


class PostgresLogs:
    """`LogStore` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def append(self, job: JobId, attempt: int, pieces: Sequence[LogPiece]) -> None:
        """Store pieces in one statement and tell whoever follows."""
        if not pieces:
            return
        rows = [
            {
                "job_id": job,
                "attempt": attempt,
                "seq": piece.seq,
                "stream": piece.stream,
                "offset": piece.offset,
                "data": piece.data,
                "cursor": piece.cursor,
            }
            for piece in pieces
        ]
        with translate_errors(), self._engine.begin() as tx:
            tx.execute(insert(log_chunks).values(rows).on_conflict_do_nothing())
            tx.execute(text("SELECT pg_notify(:channel, :job)"), {"channel": channels.LOGS, "job": job})

    def tail(self, job: JobId, attempt: int) -> LogTail:
        """Return where the stored log ends."""
        mine = (log_chunks.c.job_id == job, log_chunks.c.attempt == attempt)
        last = select(log_chunks.c.seq, log_chunks.c.cursor).where(*mine).order_by(log_chunks.c.seq.desc()).limit(1)
        end = func.max(log_chunks.c.offset + func.length(log_chunks.c.data))
        ends = select(log_chunks.c.stream, end.label("end")).where(*mine).group_by(log_chunks.c.stream)
        with translate_errors(), self._engine.connect() as tx:
            found = tx.execute(last).first()
            if found is None:
                return LogTail()
            lengths = {row.stream: row.end for row in tx.execute(ends)}
        return LogTail(found.seq, lengths.get("stdout", 0), lengths.get("stderr", 0), found.cursor)

    def since(self, job: JobId, *, attempt: int, seq: int, limit_bytes: int) -> list[LogPiece]:
        """Return what came after piece `seq`."""
        size = func.sum(func.length(log_chunks.c.data)).over(order_by=log_chunks.c.seq)
        mine = (log_chunks.c.job_id == job, log_chunks.c.attempt == attempt, log_chunks.c.seq > seq)
        # A page of rows bounds the running sum's cost, whatever the log's length.
        page = select(log_chunks, size.label("sum")).where(*mine).order_by(log_chunks.c.seq).limit(500).subquery()
        fits = (page.c.sum <= limit_bytes) | (page.c.seq == select(func.min(page.c.seq)).scalar_subquery())
        with translate_errors(), self._engine.connect() as tx:
            return [_piece(row) for row in tx.execute(select(page).where(fits).order_by(page.c.seq))]

    def read(self, job: JobId, *, attempt: int, stream: Stream, offset: int, limit_bytes: int) -> bytes:
        """Return a range of one stream."""
        mine = (log_chunks.c.job_id == job, log_chunks.c.attempt == attempt, log_chunks.c.stream == stream)
        first = select(func.max(log_chunks.c.offset)).where(*mine, log_chunks.c.offset <= offset).scalar_subquery()
        wanted = (
            select(log_chunks.c.offset, log_chunks.c.data)
            .where(*mine, log_chunks.c.offset >= first, log_chunks.c.offset < offset + limit_bytes)
            .order_by(log_chunks.c.offset)
        )
        with translate_errors(), self._engine.connect() as tx:
            rows = tx.execute(wanted).all()
        if not rows:
            return b""
        data = b"".join(bytes(row.data) for row in rows)
        skip = offset - rows[0].offset
        return data[skip : skip + limit_bytes]


def _piece(row: Row[Any]) -> LogPiece:
    return LogPiece(row.stream, bytes(row.data), row.cursor, row.attempt, row.seq, row.offset)
