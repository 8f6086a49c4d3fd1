"""Jobs on a real Postgres: repetition, ownership, notification. The whole life is in `test_store.py`."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from sqlalchemy import Engine, text

from rgrid.domain.ids import Digest, JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptRef, Ending, InputFile, JobSpec, OutputFile
from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason, Retry
from rgrid.errors import Code, RGridError
from rgrid.scheduling import commands as cmd
from rgrid.store.blobs import PostgresBlobs
from rgrid.store.jobs import PostgresJobs
from rgrid.store.ledger import PostgresLedger
from rgrid.store.listen import Listener
from rgrid.store.ports import Principal
from rgrid.wire import JobView, Submission

ME, YOU, BOSS = Principal(Owner("me")), Principal(Owner("you")), Principal(Owner("boss"), admin=True)
CODE = b"print()"
DIGEST = Digest(sha256(CODE).hexdigest())


@pytest.fixture
def jobs(engine: Engine) -> PostgresJobs:
    for who in (ME, YOU):
        PostgresBlobs(engine).put(DIGEST, [CODE], owner=who.owner, limit=100)
    return PostgresJobs(engine)


def submit(jobs: PostgresJobs, who: Principal = ME, key: str | None = None, **more: object) -> tuple[JobView, bool]:
    inputs = [{"path": "s.py", "digest": DIGEST, "size": len(CODE)}]
    submission = Submission.model_validate({"script": "deep/s.py", "inputs": inputs, **more})
    spec = JobSpec(("python", "s.py"), "i", script="deep/s.py", inputs=(InputFile("s.py", DIGEST, len(CODE)),))
    return jobs.submit(who, submission, spec, idempotency_key=key)


def count(engine: Engine, table: str) -> int:
    with engine.connect() as tx:
        return int(tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_the_name_is_the_scripts_own_unless_given(jobs: PostgresJobs) -> None:
    assert submit(jobs)[0].name == "s.py"
    assert submit(jobs, name="mine")[0].name == "mine"


def test_of_many_repetitions_at_once_one_is_new(jobs: PostgresJobs, engine: Engine) -> None:
    begin = threading.Barrier(8)

    def repeat(_: int) -> tuple[JobView, bool]:
        begin.wait(10)
        return submit(jobs, key="k")

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(repeat, range(8)))
    assert [new for _, new in found].count(True) == 1
    assert len({job.id for job, _ in found}) == 1
    assert (count(engine, "jobs"), count(engine, "job_inputs"), count(engine, "events")) == (1, 1, 1)


def test_of_two_different_ones_under_a_key_one_wins(jobs: PostgresJobs, engine: Engine) -> None:
    begin = threading.Barrier(4)

    def one(number: int) -> str:
        begin.wait(10)
        try:
            return submit(jobs, key="k", priority=number)[0].id
        except RGridError as error:
            return error.code

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(one, range(4)))
    assert found.count(Code.IDEMPOTENCY_CONFLICT) == 3
    assert count(engine, "jobs") == 1


def test_the_same_submission_written_in_another_order_is_the_same(jobs: PostgresJobs) -> None:
    first, _ = submit(jobs, key="k", env={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"})
    again, new = submit(jobs, key="k", labels={"y": "2", "x": "1"}, env={"B": "2", "A": "1"}, priority=0)
    assert (again.id, new) == (first.id, False)


def test_a_repetition_finds_its_job_though_the_inputs_are_gone(jobs: PostgresJobs, engine: Engine) -> None:
    first, _ = submit(jobs, key="k")
    with engine.begin() as tx:
        tx.execute(text("DELETE FROM blob_owners"))
    assert submit(jobs, key="k") == (first, False)
    with pytest.raises(RGridError) as caught:
        submit(jobs, key="other")
    assert caught.value.code is Code.INPUTS_MISSING
    assert submit(jobs, key="k")[0].id == first.id, "and what failed left no job and no key"
    assert (count(engine, "jobs"), count(engine, "events")) == (1, 1)


def test_anothers_blob_is_no_input_of_mine(jobs: PostgresJobs, engine: Engine) -> None:
    with pytest.raises(RGridError) as caught:
        submit(jobs, Principal(Owner("stranger")))
    assert caught.value.context["digests"] == [DIGEST]
    assert count(engine, "jobs") == 0


def test_asking_for_anothers_jobs_shows_none(jobs: PostgresJobs) -> None:
    mine, yours = submit(jobs)[0], submit(jobs, YOU)[0]
    assert jobs.page(YOU, owner="me").jobs == []
    assert [job.id for job in jobs.page(YOU, owner="you").jobs] == [yours.id]
    assert {job.id for job in jobs.page(BOSS).jobs} == {mine.id, yours.id}
    with pytest.raises(RGridError) as caught:
        jobs.open_output(YOU, mine.id, "s.py")
    assert caught.value.code is Code.JOB_NOT_FOUND


@pytest.mark.parametrize("odd", ["", "\0", "%", "_", "ID", "í", "oil", "0" * 17, "0" * 5000])
def test_an_id_that_cannot_be_is_not_found(jobs: PostgresJobs, odd: str) -> None:
    submit(jobs)
    for ask in (jobs.get, jobs.events, jobs.outputs):
        with pytest.raises(RGridError) as caught:
            ask(ME, odd)
        assert caught.value.code is Code.JOB_NOT_FOUND


def test_pages_while_others_submit(jobs: PostgresJobs) -> None:
    before = {submit(jobs)[0].id for _ in range(12)}
    stop = threading.Event()

    def keep_on() -> None:
        while not stop.is_set():
            submit(jobs)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(keep_on)
        try:
            seen: list[str] = []
            at: str | None = max(before) + "0"
            while at is not None:
                page = jobs.page(ME, before=at, limit=5)
                seen, at = seen + [job.id for job in page.jobs], page.next
        finally:
            stop.set()
    assert set(seen) == before
    assert seen == sorted(seen, reverse=True)


def test_the_scheduler_is_told_of_each_wish(
    jobs: PostgresJobs, database_url: str, eventually: Callable[..., object]
) -> None:
    heard: list[str] = []
    connected = threading.Event()
    listener = Listener(
        database_url, ["rgrid_work"], on_notify=lambda _c, job: heard.append(job), on_reconnect=connected.set
    )
    listener.start()
    try:
        assert connected.wait(10)
        job, _ = submit(jobs, key="k")
        submit(jobs, key="k")
        jobs.cancel(ME, job.id, now=False)
        last, _ = submit(jobs)
        eventually(lambda: last.id in heard)
    finally:
        listener.stop()
    assert heard == [job.id, job.id, last.id], "once for the job, once for the cancel; a repetition is no news"


def test_a_cancel_of_what_has_ended_leaves_no_trace(jobs: PostgresJobs, engine: Engine) -> None:
    job, _ = submit(jobs)
    ledger = PostgresLedger(engine)
    end = cmd.EndJob(JobId(job.id), State.FAILED, EndReason.REJECTED)
    ledger.commit([end], term=ledger.begin_term(1), now=datetime.now(UTC))
    before = jobs.get(ME, job.id), jobs.events(ME, job.id)
    assert jobs.cancel(ME, job.id, now=True) == before[0]
    assert (jobs.get(ME, job.id), jobs.events(ME, job.id)) == before


def test_outputs_are_those_of_the_last_attempt_that_ended(jobs: PostgresJobs, engine: Engine) -> None:
    job, _ = submit(jobs)
    ledger = PostgresLedger(engine)
    term, now = ledger.begin_term(1), datetime.now(UTC)
    for number in (1, 2, 3):
        ref = AttemptRef(JobId(job.id), number, Lease(f"{term}.{number}"))
        ledger.commit([cmd.AssignAttempt(ref, NodeName("n"))], term=term, now=now)
        if number < 3:
            outputs = (OutputFile(f"try-{number}.txt", DIGEST, len(CODE)),)
            ending = Ending(EndReason.EXIT, now, 1, outputs=outputs)
            ledger.commit([cmd.EndAttempt(ref, ending, State.QUEUED, Retry.CHARGED)], term=term, now=now)
    assert [output.path for output in jobs.outputs(ME, job.id)] == ["try-2.txt"]
    assert len(jobs.get(ME, job.id).attempts) == 3
    with pytest.raises(RGridError) as caught:
        jobs.open_output(ME, job.id, "try-1.txt")
    assert caught.value.code is Code.OUTPUT_NOT_FOUND
