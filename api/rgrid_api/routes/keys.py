"""API keys, for operators."""

from fastapi import APIRouter

from rgrid.errors import Code, RGridError
from rgrid.wire import KeyCreate, KeyView
from rgrid_api.deps import Grid, Operator

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post("", status_code=201)
def create(wish: KeyCreate, grid: Grid, _who: Operator) -> KeyView:
    """Make a key. Its text is in this answer and nowhere else."""
    return grid.keys.create(wish.owner, role=wish.role, name=wish.name)


@router.get("")
def keys(grid: Grid, _who: Operator) -> list[KeyView]:
    """List all keys, newest first."""
    return grid.keys.all()


@router.delete("/{key_id}")
def revoke(key_id: str, grid: Grid, who: Operator) -> KeyView:
    """Make a key useless from now on; not the one that is asked with."""
    if key_id == who.key_id:
        raise RGridError(Code.KEY_IN_USE)
    return grid.keys.revoke(key_id)
