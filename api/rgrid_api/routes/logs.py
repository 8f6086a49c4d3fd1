"""Logs: a range of one stream, or both streams as they grow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from rgrid.domain.ids import JobId
from rgrid.domain.lifecycle import TERMINAL, State
from rgrid.store.ports import LogPiece, Stream
from rgrid.wire import LogChunk, LogFollow
from rgrid_api.changes import changed
from rgrid_api.deps import Caller, Grid, Parts

router = APIRouter(prefix="/jobs/{job}/logs", tags=["logs"])
PAGE_BYTES = 1024 * 1024
#: A line is sent at least so often, so that proxies and clients know the connection lives.
ALIVE_SECONDS = 15.0


@router.get("", response_class=Response)
def read(  # noqa: PLR0917  # one argument per query parameter
    job: str,
    grid: Grid,
    who: Caller,
    stream: Stream = "stdout",
    attempt: Annotated[int, Query(ge=0)] = 0,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=16 * PAGE_BYTES)] = PAGE_BYTES,
) -> Response:
    """Return bytes of one stream from `offset` on; the last attempt's unless one is named."""
    found = grid.jobs.get(who, job)
    number = attempt or len(found.attempts)
    data = grid.logs.read(JobId(found.id), attempt=number, stream=stream, offset=offset, limit_bytes=limit)
    headers = {"X-Next-Offset": str(offset + len(data)), "X-Attempt": str(number), "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/follow")
async def follow(
    job: str,
    grid: Grid,
    who: Caller,
    attempt: Annotated[int, Query(ge=0)] = 0,
    seq: Annotated[int, Query(ge=0)] = 0,
) -> StreamingResponse:
    """Send both streams' pieces as lines of JSON while they come, one attempt after the other, until the job ended.

    Whoever was cut off goes on behind the last piece that came: `attempt` and `seq` name it.
    """
    found = await to_thread.run_sync(lambda: grid.jobs.get(who, job))
    lines = _lines(grid, JobId(found.id), max(attempt, 1), seq)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


async def _lines(grid: Parts, job: JobId, attempt: int, seq: int) -> AsyncIterator[bytes]:
    told: tuple[State, str] | None = None
    with grid.changes.of(job) as event:
        while True:
            # The state is asked before the pieces: an executor stores all of them before it reports the end, so
            # after a terminal state one more look finds everything.
            state, current, phase = await to_thread.run_sync(grid.jobs.phase, job)
            if told != (state, phase):
                told = (state, phase)
                yield _line(LogFollow(state=state, phase=phase or None))
            while attempt <= current:
                pieces = await to_thread.run_sync(lambda a=attempt, s=seq: _pieces(grid, job, a, s))  # type: ignore[misc]
                if pieces:
                    seq = pieces[-1].seq
                    yield b"".join(_line(LogFollow(chunk=_chunk(piece))) for piece in pieces)
                elif attempt < current:
                    attempt, seq = attempt + 1, 0
                else:
                    break
            if state in TERMINAL:
                yield _line(LogFollow(state=state, ended=True))
                return
            if not await changed(event, ALIVE_SECONDS):
                yield _line(LogFollow())
            await asyncio.sleep(0)


def _pieces(grid: Parts, job: JobId, attempt: int, seq: int) -> list[LogPiece]:
    return grid.logs.since(job, attempt=attempt, seq=seq, limit_bytes=PAGE_BYTES)


def _chunk(piece: LogPiece) -> LogChunk:
    data = piece.data.decode("latin-1")
    return LogChunk(attempt=piece.attempt, seq=piece.seq, stream=piece.stream, offset=piece.offset, data=data)


def _line(follow: LogFollow) -> bytes:
    return follow.model_dump_json(exclude_defaults=True).encode() + b"\n"
