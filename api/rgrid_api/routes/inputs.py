"""Inputs by their content: what the store already has from this owner is not sent again."""

from collections.abc import Iterator
from typing import Annotated

from anyio import from_thread, move_on_after, to_thread
from fastapi import APIRouter, Path, Request, Response

from rgrid.domain.ids import Digest
from rgrid.errors import Code, RGridError
from rgrid_api.deps import Caller, Grid

router = APIRouter(prefix="/inputs", tags=["inputs"])
#: A sender that vanished says nothing; it must not hold a thread for ever.
SILENCE_SECONDS = 60.0
DigestPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.head("/{digest}")
def head(digest: DigestPath, grid: Grid, who: Caller) -> Response:
    """Say whether this owner has uploaded these bytes."""
    size = grid.blobs.size(Digest(digest), owner=who.owner)
    if size is None:
        raise RGridError(Code.NOT_FOUND, f"no input of yours has digest {digest}")
    return Response(headers={"Content-Length": str(size), "ETag": f'"{digest}"'})


@router.put("/{digest}")
async def put(digest: DigestPath, request: Request, grid: Grid, who: Caller) -> Response:
    """Take the bytes as they come; at no time is a whole input in memory."""
    body = request.stream()

    async def next_piece() -> bytes | None:
        with move_on_after(SILENCE_SECONDS):
            return await anext(body, None)
        raise RGridError(Code.UPLOAD_STALLED, f"nothing came for {SILENCE_SECONDS:g} s")

    def pieces() -> Iterator[bytes]:
        while (piece := from_thread.run(next_piece)) is not None:
            yield piece

    limit = grid.settings.max_input_bytes
    await to_thread.run_sync(lambda: grid.blobs.put(Digest(digest), pieces(), owner=who.owner, limit=limit))
    return Response(status_code=201, headers={"ETag": f'"{digest}"'})
