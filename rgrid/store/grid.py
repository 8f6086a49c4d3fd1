"""The grid's one row: who it is, and whether its scheduler lives."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from rgrid.store.engine import translate_errors
from rgrid.store.tables import grid


@dataclass(frozen=True, slots=True)
class SchedulerSeen:
    """What the scheduler last wrote of itself."""

    pid: int | None
    at: datetime | None
    #: Seconds since then by the database's clock, or None when it never wrote.
    age_seconds: float | None


def grid_id(engine: Engine) -> str:
    """Return the id that labels this grid's containers."""
    with translate_errors(), engine.connect() as tx:
        return str(tx.execute(select(grid.c.id)).scalar_one())


def scheduler_seen(engine: Engine) -> SchedulerSeen:
    """Return when the scheduler was last heard."""
    age = func.extract("epoch", func.now() - grid.c.scheduler_seen_at)
    with translate_errors(), engine.connect() as tx:
        row = tx.execute(select(grid.c.scheduler_pid, grid.c.scheduler_seen_at, age.label("age"))).one()
    return SchedulerSeen(row.scheduler_pid, row.scheduler_seen_at, None if row.age is None else float(row.age))
