"""Locks in Postgres: what a declaration was resolved to, once, and which job runs with which.

Whoever resolves first decides: of two nodes at the same moment the second is told the first one's answer, and builds
that. A job keeps its lock, whatever the same declaration may be resolved to later.
"""

import hashlib

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rgrid.domain.dependencies import Lock
from rgrid.domain.ids import JobId
from rgrid.store.engine import translate_errors
from rgrid.store.tables import job_locks, locks, resolutions


class PostgresLocks:
    """`LockStore` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def find(self, job: JobId, key: str) -> Lock | None:
        """Return the job's lock, else what `key` was resolved to, which is the job's from now on."""
        of_job = select(locks).join(job_locks).where(job_locks.c.job_id == job)
        touch = update(resolutions).where(resolutions.c.key == key).values(used_at=func.now())
        with translate_errors(), self._engine.begin() as tx:
            if (row := tx.execute(of_job).mappings().first()) is not None:
                return Lock(row["format"], row["text"])
            resolved = tx.execute(touch.returning(resolutions.c.lock_id)).scalar_one_or_none()
            if resolved is None:
                return None
            _give(tx, job, resolved)
            row = tx.execute(select(locks).where(locks.c.id == resolved)).mappings().one()
            return Lock(row["format"], row["text"])

    def keep(self, job: JobId, key: str, lock: Lock) -> Lock:
        """Keep what `key` was resolved to; return what stands, which is the job's from now on."""
        new = {"id": lock_id(lock), "format": lock.format, "text": lock.text, "created_at": func.now()}
        answer = insert(resolutions).values(key=key, lock_id=lock_id(lock), created_at=func.now(), used_at=func.now())
        with translate_errors(), self._engine.begin() as tx:
            tx.execute(insert(locks).values(**new).on_conflict_do_nothing())
            tx.execute(answer.on_conflict_do_nothing())
        found = self.find(job, key)
        assert found is not None, "it was written a moment ago"
        return found


def lock_id(lock: Lock) -> str:
    """Return the name of a lock: the digest of its content."""
    return hashlib.sha256(f"{lock.format}\n{lock.text}".encode()).hexdigest()


def _give(tx: Connection, job: JobId, lock: str) -> None:
    tx.execute(insert(job_locks).values(job_id=job, lock_id=lock).on_conflict_do_nothing())
