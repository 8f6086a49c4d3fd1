"""Outputs: what a job left in its workspace."""

from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from rgrid.wire import OutputView
from rgrid_api.deps import Caller, Grid

router = APIRouter(prefix="/jobs/{job}/outputs", tags=["outputs"])


@router.get("")
def outputs(job: str, grid: Grid, who: Caller) -> list[OutputView]:
    """List the files the job's last ended attempt left behind."""
    return grid.jobs.outputs(who, job)


@router.get("/{path:path}")
def download(job: str, path: str, grid: Grid, who: Caller) -> StreamingResponse:
    """Send one of them."""
    output, pieces = grid.jobs.open_output(who, job, path)
    name = quote(path.rsplit("/", 1)[-1])
    headers = {
        "Content-Length": str(output.size),
        "ETag": f'"{output.digest}"',
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)
