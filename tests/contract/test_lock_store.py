"""One suite against every lock store."""

import pytest

from rgrid.domain.dependencies import Lock
from rgrid.domain.ids import JobId
from rgrid.store.memory import MemoryLocks
from rgrid.store.ports import LockStore

ONE, TWO = Lock("requirements", "numpy==2.1.0\n"), Lock("requirements", "numpy==2.2.0\n")


@pytest.fixture(params=["memory", "postgres"])
def locks(request: pytest.FixtureRequest) -> LockStore:
    if request.param == "memory":
        return MemoryLocks()
    from sqlalchemy import text

    from rgrid.store.locks import PostgresLocks

    engine = request.getfixturevalue("engine")
    with engine.begin() as tx:
        for job in ("j1", "j2", "j3"):
            row = "INSERT INTO jobs (id, owner, name, state, spec, cpu_millis, memory_bytes, submitted_at, queued_at)"
            tx.execute(text(f"{row} VALUES ('{job}', 'me', 'x', 'queued', '{{}}', 1, 1, now(), now())"))
    return PostgresLocks(engine)


def test_what_nobody_resolved_is_not_there(locks: LockStore) -> None:
    assert locks.find(JobId("j1"), "k") is None


def test_the_first_answer_stands(locks: LockStore) -> None:
    assert locks.keep(JobId("j1"), "k", ONE) == ONE
    assert locks.keep(JobId("j2"), "k", TWO) == ONE
    assert locks.find(JobId("j3"), "k") == ONE


def test_a_job_keeps_its_lock(locks: LockStore) -> None:
    locks.keep(JobId("j1"), "k", ONE)
    assert locks.keep(JobId("j1"), "another", TWO) == ONE
    assert locks.find(JobId("j2"), "another") == TWO
    assert locks.find(JobId("j1"), "whatever") == ONE
