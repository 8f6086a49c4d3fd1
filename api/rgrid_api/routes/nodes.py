"""What there is to run on and with: nodes and runtimes; and who is asking."""

from fastapi import APIRouter

from rgrid.runtimes import DEFAULT, RUNTIMES
from rgrid.wire import NodeView, RuntimeView
from rgrid_api.deps import Caller, Grid

router = APIRouter(tags=["grid"])


@router.get("/nodes")
def nodes(grid: Grid, _who: Caller) -> list[NodeView]:
    """List the machines of the grid."""
    return grid.jobs.nodes()


@router.get("/runtimes")
def runtimes(_who: Caller) -> list[RuntimeView]:
    """List the short names of what can run a script."""
    return [
        RuntimeView(name=r.name, image=r.image, endings=list(r.endings), default=r.name == DEFAULT) for r in RUNTIMES
    ]


@router.get("/me")
def me(who: Caller) -> dict[str, object]:
    """Say whose key this is."""
    return {"owner": who.owner, "role": "admin" if who.admin else "user"}
