"""Whether the gateway lives, and whether it can do its work. No key needed: whoever watches has none."""

from fastapi import APIRouter, Response

from rgrid import __version__
from rgrid.errors import RGridError
from rgrid.store.grid import scheduler_seen
from rgrid.wire import Health
from rgrid_api.deps import Grid

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "live", "version": __version__}


@router.get("/ready")
def ready(grid: Grid, response: Response) -> Health:
    """Say whether submissions can be taken, and why not. A scheduler that is away does not matter: work waits."""
    try:
        grid.check_schema()
        seen = scheduler_seen(grid.engine)
    except RGridError as error:
        response.status_code = 503
        return Health(ready=False, version=__version__, reason=error.message, code=error.code)
    return Health(ready=True, version=__version__, scheduler_pid=seen.pid, scheduler_seen_at=seen.at)
