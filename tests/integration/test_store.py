"""Jobs, keys, notifications and the ledger on a real Postgres."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from sqlalchemy import Engine, text

from rgrid.domain.ids import JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptRef, Ending, InputFile, JobSpec, NodeInfo, OutputFile
from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason, Retry
from rgrid.domain.resources import Resources
from rgrid.errors import Code, RGridError
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid.store.blobs import PostgresBlobs
from rgrid.store.jobs import PostgresJobs
from rgrid.store.keys import PostgresKeys
from rgrid.store.ledger import PostgresLedger
from rgrid.store.listen import Listener
from rgrid.store.new_ids import new_job_id
from rgrid.store.ports import DeposedError, Principal, StaleWriteError
from rgrid.wire import FileEntry, JobView, Submission

ME, YOU, BOSS = Principal(Owner("me")), Principal(Owner("you")), Principal(Owner("boss"), admin=True)
CODE = b"print()"
DIGEST = sha256(CODE).hexdigest()
NODE = NodeInfo(NodeName("n1"), Resources(4000, 2**33))


@pytest.fixture
def jobs(engine: Engine) -> PostgresJobs:
    blobs = PostgresBlobs(engine)
    for who in (ME, YOU):
        blobs.put(DIGEST, [CODE], owner=who.owner, limit=100)
    return PostgresJobs(engine)


@pytest.fixture
def ledger(engine: Engine) -> PostgresLedger:
    return PostgresLedger(engine)


def submit(jobs: PostgresJobs, who: Principal = ME, key: str | None = None, **more: object) -> JobView:
    submission = Submission.model_validate(
        {"script": "s.py", "inputs": [{"path": "s.py", "digest": DIGEST, "size": len(CODE)}], **more}
    )
    spec = JobSpec(
        ("python", "s.py"),
        "python:3.11",
        script="s.py",
        inputs=(InputFile("s.py", DIGEST, len(CODE)),),
        timeout=timedelta(seconds=submission.timeout_seconds),
        max_retries=submission.max_retries,
    )
    return jobs.submit(who, submission, spec, idempotency_key=key)[0]


def now() -> datetime:
    return datetime.now(UTC)


class Scheduler:
    """Writes as the scheduler would."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self.ledger, self.term = ledger, ledger.begin_term(1)

    def __call__(self, *writes: cmd.Write) -> None:
        self.ledger.commit(writes, term=self.term, now=now())

    def assign(self, job: str, number: int = 1) -> AttemptRef:
        ref = AttemptRef(JobId(job), number, Lease(f"{self.term}.{job}.{number}"))
        self(cmd.AssignAttempt(ref, NODE.name))
        return ref


def test_ids_sort_by_their_time() -> None:
    made = [new_job_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [m[:9] for m in made] == sorted(m[:9] for m in made)
    assert {len(m) for m in made} == {16}


def test_the_same_key_is_the_same_job(jobs: PostgresJobs) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {job.id for job in pool.map(lambda _: submit(jobs, key="k"), range(16))}
    assert len(found) == 1
    assert len(jobs.page(ME).jobs) == 1
    assert submit(jobs, YOU, key="k").id not in found, "another owner's key is another key"
    with pytest.raises(RGridError) as caught:
        submit(jobs, key="k", name="different")
    assert caught.value.code is Code.IDEMPOTENCY_CONFLICT


def test_no_job_before_its_inputs(jobs: PostgresJobs) -> None:
    lacking = sha256(b"other").hexdigest()
    submission = Submission(script="s.py", inputs=[FileEntry(path="s.py", digest=lacking, size=5)])
    with pytest.raises(RGridError) as caught:
        jobs.submit(ME, submission, JobSpec((), "x", inputs=(InputFile("s.py", lacking, 5),)))
    assert caught.value.code is Code.INPUTS_MISSING
    assert caught.value.context["digests"] == [lacking]
    assert jobs.page(ME).jobs == []


def test_nobody_reads_anothers(jobs: PostgresJobs) -> None:
    mine = submit(jobs)
    for ask in (jobs.get, jobs.events, jobs.outputs):
        with pytest.raises(RGridError) as caught:
            ask(YOU, mine.id)
        assert caught.value.code is Code.JOB_NOT_FOUND
    with pytest.raises(RGridError):
        jobs.cancel(YOU, mine.id, now=True)
    assert jobs.page(YOU).jobs == []
    assert jobs.page(YOU, owner="me").jobs == [], "only an operator may name an owner"
    assert jobs.get(BOSS, mine.id).id == mine.id
    assert [j.id for j in jobs.page(BOSS, owner="me").jobs] == [mine.id]


def test_an_id_may_be_cut_short(jobs: PostgresJobs, engine: Engine) -> None:
    first = submit(jobs)
    assert jobs.get(ME, first.id[:12]).id == first.id
    submit(jobs)
    with pytest.raises(RGridError) as caught:
        jobs.get(ME, first.id[:3])
    assert caught.value.code is Code.JOB_AMBIGUOUS
    for nothing in ("", "zzz", "%", "'"):
        with pytest.raises(RGridError) as caught:
            jobs.get(ME, nothing)
        assert caught.value.code is Code.JOB_NOT_FOUND


def test_pages_by_keyset_lose_and_repeat_nothing(jobs: PostgresJobs) -> None:
    made = [submit(jobs, labels={"even": str(i % 2 == 0)}).id for i in range(7)]
    seen: list[str] = []
    before = None
    while True:
        page = jobs.page(ME, before=before, limit=3)
        seen += [job.id for job in page.jobs]
        submit(jobs)  # what comes meanwhile is newer, and disturbs nothing
        if (before := page.next) is None:
            break
    assert seen == sorted(made, reverse=True)
    assert len(jobs.page(ME, labels={"even": "True"}, limit=100).jobs) == 4
    assert jobs.page(ME, states=[State.RUNNING]).jobs == []


def test_a_life(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    job = submit(jobs)
    scheduler = Scheduler(ledger)
    [news] = ledger.news([JobId(job.id)])
    assert isinstance(news, ev.JobSubmitted)
    assert ledger.news(known=frozenset([JobId(job.id)])) == []
    scheduler(cmd.RecordNode(NODE, "ready"))
    ref = scheduler.assign(job.id)
    [order] = ledger.orders([ref])
    assert order.spec.command == ("python", "s.py")
    assert [file.path for file in order.spec.inputs] == ["s.py"]
    scheduler(cmd.RecordProgress(ref, "image", now(), "pulling"))
    assert jobs.phase(JobId(job.id)) == (State.ASSIGNED, 1, "pulling")
    scheduler(cmd.RecordStart(ref, State.RUNNING, now()))
    [node] = jobs.nodes()
    assert (node.jobs, node.cpu_millis_used) == (1, 1000)
    out = OutputFile("out/x.txt", DIGEST, len(CODE))
    ending = Ending(
        EndReason.EXIT, now(), 0, message="exit code 0", peak_memory_bytes=7, outputs=(out,), proof={"a": 1}
    )
    scheduler(cmd.EndAttempt(ref, ending, State.SUCCEEDED))
    found = jobs.get(ME, job.id)
    assert (found.state, found.reason, found.exit_code, found.peak_memory_bytes) == ("succeeded", "exit", 0, 7)
    assert found.attempts[0].proof == {"a": 1}
    assert [o.path for o in jobs.outputs(ME, job.id)] == ["out/x.txt"]
    assert b"".join(jobs.open_output(ME, job.id, "out/x.txt")[1]) == CODE
    kinds = [event.type for event in jobs.events(ME, job.id)]
    assert kinds == ["submitted", "assigned", "progress", "started", "succeeded"]


def test_stale_writes_change_nothing(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    job, other = submit(jobs), submit(jobs)
    scheduler = Scheduler(ledger)
    ref = scheduler.assign(job.id)
    stale = AttemptRef(ref.job, 1, Lease("0.0"))
    for write in (
        cmd.AssignAttempt(AttemptRef(ref.job, 2, Lease("9.9")), NODE.name),
        cmd.RecordStart(stale, State.RUNNING, now()),
        cmd.MarkStopping(stale, now=True),
        cmd.EndAttempt(stale, Ending(EndReason.EXIT, now(), 0), State.SUCCEEDED),
        cmd.EndJob(ref.job, State.CANCELLED, EndReason.CANCELLED),
    ):
        with pytest.raises(StaleWriteError):
            scheduler(cmd.AssignAttempt(AttemptRef(JobId(other.id), 1, Lease("1.99")), NODE.name), write)
    assert jobs.get(ME, job.id).state == "assigned"
    assert jobs.get(ME, other.id).state == "queued", "all or nothing"
    scheduler(cmd.EndAttempt(ref, Ending(EndReason.EXIT, now(), 0), State.SUCCEEDED))
    with pytest.raises(StaleWriteError):
        scheduler(cmd.EndAttempt(ref, Ending(EndReason.EXIT, now(), 1), State.FAILED))


def test_a_deposed_scheduler_writes_nothing(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    job = submit(jobs)
    old, new = Scheduler(ledger), Scheduler(ledger)
    with pytest.raises(DeposedError):
        old.assign(job.id)
    with pytest.raises(DeposedError):
        ledger.beat(term=old.term, heard={})
    new.assign(job.id)
    ledger.beat(term=new.term, heard={NODE.name: now()})


def test_a_retry_keeps_every_attempt(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    job = submit(jobs)
    scheduler = Scheduler(ledger)
    ref = scheduler.assign(job.id)
    scheduler(cmd.EndAttempt(ref, Ending(EndReason.NODE_LOST, now()), State.QUEUED, Retry.FREE))
    [news] = ledger.news()
    assert isinstance(news, ev.JobSubmitted)
    assert (news.attempt, news.free, news.charged) == (1, 1, 0)
    again = scheduler.assign(job.id, 2)
    scheduler(cmd.EndAttempt(again, Ending(EndReason.EXIT, now(), 3), State.FAILED))
    found = jobs.get(ME, job.id)
    assert [(a.number, a.reason) for a in found.attempts] == [(1, "node-lost"), (2, "exit")]
    assert ledger.news() == []


def test_what_a_new_scheduler_finds(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    waiting, running, done = submit(jobs), submit(jobs), submit(jobs)
    scheduler = Scheduler(ledger)
    scheduler(cmd.RecordNode(NODE, "ready"))
    ref = scheduler.assign(running.id)
    end = scheduler.assign(done.id)
    scheduler(cmd.EndAttempt(end, Ending(EndReason.EXIT, now(), 0), State.SUCCEEDED))
    node, job = ledger.restore()
    assert isinstance(node, ev.NodeRestored)
    assert isinstance(job, ev.JobRestored)
    assert (job.ref, job.node, job.state) == (ref, "n1", State.ASSIGNED)
    assert [n.job for n in ledger.news(known=frozenset([ref.job]))] == [waiting.id]


def test_a_cancel_is_news_and_keeps_its_first_time(jobs: PostgresJobs, ledger: PostgresLedger) -> None:
    job = submit(jobs)
    first = jobs.cancel(ME, job.id, now=False)
    assert first.state == "queued", "the scheduler ends it, nobody else"
    assert ev.CancelRequested(JobId(job.id), now=False) in ledger.news()
    again = jobs.cancel(ME, job.id, now=True)
    assert again.cancel_requested_at == first.cancel_requested_at
    assert ev.CancelRequested(JobId(job.id), now=True) in ledger.news()
    Scheduler(ledger)(cmd.EndJob(JobId(job.id), State.CANCELLED, EndReason.CANCELLED))
    assert jobs.cancel(ME, job.id, now=False).state == "cancelled"


def test_the_database_itself_refuses_what_cannot_be(engine: Engine, jobs: PostgresJobs) -> None:
    from sqlalchemy.exc import IntegrityError

    job = submit(jobs)
    for change in ("state = 'odd'", "state = 'running'", "state = 'failed'", "reason = 'exit'", "lease = 'x'"):
        with pytest.raises(IntegrityError), engine.begin() as tx:
            tx.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job.id})


def test_keys(engine: Engine) -> None:
    keys = PostgresKeys(engine)
    made = keys.create("me", name="laptop")
    assert made.key is not None
    assert made.key.startswith("rg_")
    assert keys.find(made.key) == Principal(Owner("me"), admin=False, key_id=made.id)
    assert keys.find(made.key + "x") is None
    assert keys.all()[0].key is None
    with engine.connect() as tx:
        assert made.key.encode() not in bytes(tx.execute(text("SELECT hash FROM api_keys")).scalar_one())
    keys.revoke(made.id)
    assert keys.find(made.key) is None
    with pytest.raises(RGridError):
        keys.revoke("none")
    keys.ensure("rg_known", "root", "admin")
    keys.ensure("rg_known", "root", "admin")
    assert keys.find("rg_known") == Principal(Owner("root"), admin=True, key_id=keys.all()[0].id)


def test_a_listener_comes_back(database_url: str, engine: Engine, eventually: Callable[..., object]) -> None:
    heard: list[str] = []
    connected = threading.Semaphore(0)
    listener = Listener(
        database_url, ["rgrid_work"], on_notify=lambda _c, p: heard.append(p), on_reconnect=connected.release
    )
    listener.start()
    try:
        assert connected.acquire(timeout=10)
        for word in ("one", "two"):
            with engine.begin() as tx:
                tx.execute(text("SELECT pg_notify('rgrid_work', :w)"), {"w": word})
            eventually(lambda word=word: word in heard)
            with engine.begin() as tx:
                ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                tx.execute(text(f"{ours} WHERE application_name = 'rgrid listener' AND datname = current_database()"))
            assert connected.acquire(timeout=10), "it said that it listens again"
    finally:
        listener.stop()


def test_what_ended_long_ago_is_forgotten_with_all_that_is_its(
    engine: Engine, jobs: PostgresJobs, ledger: PostgresLedger
) -> None:
    scheduler = Scheduler(ledger)
    old, young, live = (submit(jobs, ME) for _ in range(3))
    long_ago = now() - timedelta(days=40)
    with engine.begin() as tx:
        for job in (old, live):  # as if they had been submitted then
            name = f"0{job.id[1:]}"
            tx.execute(text("UPDATE jobs SET submitted_at = :at WHERE id = :id"), {"at": long_ago, "id": job.id})
            tx.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            tx.execute(
                text(
                    "INSERT INTO jobs SELECT (jsonb_populate_record(j, jsonb_build_object('id', CAST(:new AS text),"
                    " 'idempotency_key', NULL))).* FROM jobs j WHERE id = :id"
                ),
                {"new": name, "id": job.id},
            )
            tx.execute(text("UPDATE job_inputs SET job_id = :new WHERE job_id = :id"), {"new": name, "id": job.id})
            tx.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job.id})
    scheduler(cmd.EndJob(JobId(f"0{old.id[1:]}"), State.CANCELLED, EndReason.CANCELLED))
    scheduler(cmd.EndJob(JobId(young.id), State.CANCELLED, EndReason.CANCELLED))
    with engine.begin() as tx:
        tx.execute(text("UPDATE jobs SET ended_at = :at WHERE id LIKE '0%' AND state = 'cancelled'"), {"at": long_ago})
    before = now() - timedelta(days=30)
    assert ledger.prune(term=scheduler.term, before=before, limit=10) == 1
    assert ledger.prune(term=scheduler.term, before=before, limit=10) == 0
    left = {job.id for job in jobs.page(ME).jobs}
    assert left == {young.id, f"0{live.id[1:]}"}, "neither what is young nor what has not ended"


def test_bytes_that_nothing_names_are_deleted_once_they_are_old(
    engine: Engine, jobs: PostgresJobs, ledger: PostgresLedger
) -> None:
    scheduler = Scheduler(ledger)
    blobs = PostgresBlobs(engine)
    named = submit(jobs, ME)
    digests = [sha256(data).hexdigest() for data in (b"idle", b"again", b"young")]
    for digest, data in zip(digests, (b"idle", b"again", b"young"), strict=True):
        blobs.put(digest, [data], owner=ME.owner, limit=100)
    with engine.begin() as tx:
        tx.execute(
            text("UPDATE blobs SET created_at = now() - interval '2 days' WHERE digest != :young"),
            {"young": digests[2]},
        )
    blobs.put(digests[1], [b"again"], owner=YOU.owner, limit=100)
    ledger.prune(term=scheduler.term, before=now(), limit=100)
    assert [blobs.size(digest, owner=ME.owner) for digest in digests] == [None, 5, 5]
    assert jobs.get(ME, named.id).id == named.id
    assert b"".join(blobs.open(DIGEST)) == CODE
    with pytest.raises(DeposedError):
        ledger.prune(term=scheduler.term - 1, before=now(), limit=1)
