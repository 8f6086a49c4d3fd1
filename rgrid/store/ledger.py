"""The scheduler's hand in Postgres: the only code that changes where a job is in its life.

Every change is a guarded UPDATE (state, attempt, lease) with its event in the same transaction, under the scheduler's
term. A guard that finds no row means that memory and store disagree: nothing of the batch is written, and the scheduler
starts afresh from what is stored.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from rgrid.domain.ids import JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, InputFile, NodeInfo
from rgrid.domain.lifecycle import LIVE, ON_NODE, State, sources
from rgrid.domain.reasons import EndReason, Retry
from rgrid.domain.resources import Resources
from rgrid.scheduling import commands as cmd
from rgrid.scheduling.events import CancelRequested, JobRestored, JobSubmitted, NodeRestored
from rgrid.store import channels
from rgrid.store.engine import translate_errors
from rgrid.store.new_ids import floor_of
from rgrid.store.ports import DeposedError, News, Restored, StaleWriteError
from rgrid.store.specs import spec_from_json
from rgrid.store.tables import (
    attempts,
    blobs,
    events,
    grid,
    job_inputs,
    job_locks,
    jobs,
    locks,
    nodes,
    outputs,
    resolutions,
)

#: A notification's payload must stay below 8000 bytes; above that the listeners look at everything.
MAX_PAYLOAD = 7900
#: An upload may be so much older than the job it is for.
UPLOAD_GRACE = timedelta(days=1)


class PostgresLedger:
    """`Ledger` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine; nothing is asked yet."""
        self._engine = engine

    def begin_term(self, pid: int) -> int:
        """Raise the term. Waits for a predecessor's running transaction, and locks out its next."""
        with translate_errors(), self._engine.begin() as tx:
            raised = update(grid).values(term=grid.c.term + 1, scheduler_pid=pid, scheduler_seen_at=func.now())
            return int(tx.execute(raised.returning(grid.c.term)).scalar_one())

    def restore(self) -> list[Restored]:
        """Return nodes first, then the jobs that are on them."""
        with translate_errors(), self._engine.connect() as tx:
            found: list[Restored] = [NodeRestored(_node_info(row)) for row in tx.execute(select(nodes)).mappings()]
            held = select(jobs).where(jobs.c.state.in_(ON_NODE))
            for row in tx.execute(held).mappings():
                ref = AttemptRef(JobId(row["id"]), row["attempt"], Lease(row["lease"]))
                found.append(JobRestored(_submitted(row), State(row["state"]), ref, NodeName(row["node"])))
            return found

    def news(self, jobs_: Sequence[JobId] | None = None, *, known: frozenset[JobId] = frozenset()) -> list[News]:
        """Look at these jobs, or by state at all of them: never by `id > last`, which a late commit slips past."""
        wanted = select(jobs).where(jobs.c.state.in_(LIVE)).order_by(jobs.c.id)
        if jobs_ is not None:
            wanted = wanted.where(jobs.c.id.in_(jobs_))
        found: list[News] = []
        with translate_errors(), self._engine.connect() as tx:
            for row in tx.execute(wanted).mappings():
                if row["id"] not in known and row["state"] == State.QUEUED:
                    found.append(_submitted(row))
                if row["cancel_requested_at"] is not None:
                    found.append(CancelRequested(JobId(row["id"]), now=row["cancel_now"]))
        return found

    def commit(self, writes: Sequence[cmd.Write], *, term: int, now: datetime) -> None:
        """Write all or nothing."""
        if not writes:
            return
        with translate_errors(), self._engine.begin() as tx:
            _hold_term(tx, term)
            touched = {job for write in writes if (job := _write(tx, write, term, now)) is not None}
            if touched:
                payload = ",".join(sorted(touched))
                tx.execute(
                    text("SELECT pg_notify(:channel, :payload)"),
                    {"channel": channels.CHANGED, "payload": payload if len(payload) <= MAX_PAYLOAD else ""},
                )

    def beat(self, *, term: int, heard: Mapping[NodeName, datetime]) -> None:
        """Note who lives; that the scheduler does, by the clock its silence is measured with."""
        with translate_errors(), self._engine.begin() as tx:
            seen = update(grid).where(grid.c.term == term).values(scheduler_seen_at=func.now())
            if tx.execute(seen).rowcount == 0:
                raise DeposedError
            if heard:
                at = update(nodes).where(nodes.c.name == bindparam("node")).values(last_seen_at=bindparam("at"))
                tx.execute(at, [{"node": name, "at": when} for name, when in sorted(heard.items())])

    def prune(self, *, term: int, before: datetime, limit: int) -> int:
        """Delete the oldest first: an id begins with its time, so the primary key finds them, however many are kept."""
        old = select(jobs.c.id).where(jobs.c.id < floor_of(before), jobs.c.ended_at < before)
        old = old.order_by(jobs.c.id).limit(limit)
        named = (
            select(job_inputs.c.digest)
            .where(job_inputs.c.digest == blobs.c.digest)
            .union_all(select(outputs.c.digest).where(outputs.c.digest == blobs.c.digest))
        )
        # What was uploaded a while ago and belongs to no job: its job is gone, or never came.
        idle = (
            select(blobs.c.digest).where(blobs.c.created_at < func.now() - UPLOAD_GRACE, ~named.exists()).limit(limit)
        )
        locked = select(job_locks.c.lock_id).where(job_locks.c.lock_id == locks.c.id)
        unused = select(resolutions.c.key).where(resolutions.c.lock_id == locks.c.id, resolutions.c.used_at >= before)
        with translate_errors(), self._engine.begin() as tx:
            _hold_term(tx, term)
            gone = tx.execute(delete(jobs).where(jobs.c.id.in_(old))).rowcount
            tx.execute(delete(blobs).where(blobs.c.digest.in_(idle.with_for_update(skip_locked=True))))
            tx.execute(delete(locks).where(locks.c.created_at < before, ~locked.exists(), ~unused.exists()))
        return gone

    def orders(self, refs: Sequence[AttemptRef]) -> list[AttemptOrder]:
        """Return the specs of these attempts with their inputs, in two queries however many there are."""
        if not refs:
            return []
        by_job = {ref.job: ref for ref in refs}
        with translate_errors(), self._engine.connect() as tx:
            rows = tx.execute(select(jobs).where(jobs.c.id.in_(by_job), jobs.c.state.in_(ON_NODE))).mappings().all()
            inputs: dict[str, list[InputFile]] = {}
            files = select(job_inputs).where(job_inputs.c.job_id.in_(by_job)).order_by(job_inputs.c.path)
            for file in tx.execute(files).mappings():
                inputs.setdefault(file["job_id"], []).append(
                    InputFile(file["path"], file["digest"], file["size"], file["executable"])
                )
        return [
            AttemptOrder(ref, Owner(row["owner"]), row["name"], spec_from_json(row["spec"], inputs.get(row["id"], [])))
            for row in rows
            if (ref := by_job[row["id"]]) == AttemptRef(JobId(row["id"]), row["attempt"], Lease(row["lease"]))
        ]


# -- reading ----------------------------------------------------------------------------------------------------------


def _submitted(row: Mapping[Any, Any]) -> JobSubmitted:
    return JobSubmitted(
        job=JobId(row["id"]),
        owner=Owner(row["owner"]),
        priority=row["priority"],
        resources=Resources(row["cpu_millis"], row["memory_bytes"]),
        queued_at=row["queued_at"],
        max_retries=int(row["spec"].get("max_retries", 0)),
        charged=row["charged_retries"],
        free=row["free_retries"],
        attempt=row["attempt"],
    )


def _node_info(row: Mapping[Any, Any]) -> NodeInfo:
    return NodeInfo(
        name=NodeName(row["name"]),
        capacity=Resources(row["cpu_millis"], row["memory_bytes"]),
        address=row["address"],
        pid=row["pid"] or 0,
        engine=row["engine"],
        unready=row["unready"],
    )


# -- writing ----------------------------------------------------------------------------------------------------------


def _hold_term(tx: Connection, term: int) -> None:
    """Keep any later term from beginning until this transaction has ended."""
    held = select(grid.c.term).where(grid.c.term == term).with_for_update(read=True)
    if tx.execute(held).first() is None:
        raise DeposedError(f"term {term} is over")


def _write(tx: Connection, write: cmd.Write, term: int, now: datetime) -> JobId | None:
    match write:
        case cmd.AssignAttempt(ref, node):
            _assign(tx, ref, node, term, now)
            return ref.job
        case cmd.RecordProgress(ref, phase, at, detail):
            _note(tx, ref.job, ref.number, "progress", at, phase=phase, detail=detail)
            return ref.job
        case cmd.RecordStart(ref, state, at):
            _on_node(tx, ref, {State.ASSIGNED, State.STOPPING}, state=state, started_at=at)
            _attempt(tx, ref, state="running", started_at=at)
            _note(tx, ref.job, ref.number, "started", at)
            return ref.job
        case cmd.MarkStopping(ref, skips_grace):
            _on_node(tx, ref, set(ON_NODE), state=State.STOPPING)
            _note(tx, ref.job, ref.number, "stopping", now, now=skips_grace)
            return ref.job
        case cmd.EndAttempt():
            _end_attempt(tx, write, now)
            return write.ref.job
        case cmd.EndJob(job, state, reason, message):
            waiting = jobs.c.state.in_([State.QUEUED, State.BLOCKED])
            ended = update(jobs).where(jobs.c.id == job, waiting)
            _must_hit(tx, ended.values(state=state, reason=reason, message=message, ended_at=now), write)
            _note(tx, job, None, state, now, reason=reason, message=message)
            return job
        case cmd.RecordNode(info, node_state):
            _record_node(tx, info, node_state, now)
            return None
        case _:
            assert_never(write)


def _assign(tx: Connection, ref: AttemptRef, node: NodeName, term: int, now: datetime) -> None:
    guard = (jobs.c.id == ref.job, jobs.c.state == State.QUEUED, jobs.c.attempt == ref.number - 1)
    taken = update(jobs).where(*guard).values(state=State.ASSIGNED, attempt=ref.number, lease=ref.lease, node=node)
    _must_hit(tx, taken, ref)
    row = {"job_id": ref.job, "number": ref.number, "lease": ref.lease, "node": node, "term": term}
    tx.execute(insert(attempts).values(**row, state="assigned", assigned_at=now))
    _note(tx, ref.job, ref.number, "assigned", now, node=node)


def _end_attempt(tx: Connection, write: cmd.EndAttempt, now: datetime) -> None:
    ref, ending = write.ref, write.ending
    facts: dict[str, Any] = {
        "reason": ending.reason,
        "exit_code": ending.exit_code,
        "message": ending.message,
        "ended_at": ending.at,
        "peak_memory_bytes": ending.peak_memory_bytes,
    }
    if write.state is State.QUEUED:
        free = write.retry is Retry.FREE
        _on_node(
            tx,
            ref,
            sources(State.QUEUED),
            state=State.QUEUED,
            lease=None,
            node=None,
            queued_at=now,
            free_retries=jobs.c.free_retries + int(free),
            charged_retries=jobs.c.charged_retries + int(not free),
        )
    else:
        # A job that was asked to stop says so, whatever took its last attempt away.
        why = EndReason.CANCELLED if write.state is State.CANCELLED else ending.reason
        started = {"started_at": ending.started_at} if ending.started_at is not None else {}
        _on_node(tx, ref, set(ON_NODE), state=write.state, lease=None, **(facts | started | {"reason": why}))
    timings = {f: getattr(ending.timings, f) for f in ending.timings.__dataclass_fields__}
    _attempt(
        tx,
        ref,
        state="ended",
        **facts,
        signal=ending.signal,
        cpu_seconds=ending.cpu_seconds,
        image_digest=ending.image_digest,
        started_at=func.coalesce(ending.started_at, attempts.c.started_at),
        timings=timings,
        proof=dict(ending.proof),
    )
    if ending.outputs:
        row = {"job_id": ref.job, "attempt": ref.number}
        tx.execute(
            insert(outputs),
            [
                row | {"path": o.path, "digest": o.digest, "size": o.size, "executable": o.executable}
                for o in ending.outputs
            ],
        )
    what = "requeued" if write.state is State.QUEUED else str(write.state)
    _note(tx, ref.job, ref.number, what, now, reason=ending.reason, message=ending.message)


def _record_node(tx: Connection, info: NodeInfo, state: cmd.NodeState, now: datetime) -> None:
    row = {
        "name": info.name,
        "state": state,
        "unready": info.unready,
        "address": info.address,
        "cpu_millis": info.capacity.cpu_millis,
        "memory_bytes": info.capacity.memory_bytes,
        "engine": info.engine,
        "pid": info.pid or None,
    }
    if state in {"ready", "unready"}:
        row["last_seen_at"] = now
    tx.execute(upsert(nodes).values(**row).on_conflict_do_update(index_elements=["name"], set_=row))


def _on_node(tx: Connection, ref: AttemptRef, states: frozenset[State] | set[State], **values: Any) -> None:
    guard = (jobs.c.id == ref.job, jobs.c.attempt == ref.number, jobs.c.lease == ref.lease, jobs.c.state.in_(states))
    _must_hit(tx, update(jobs).where(*guard).values(**values), ref)


def _attempt(tx: Connection, ref: AttemptRef, **values: Any) -> None:
    guard = (attempts.c.job_id == ref.job, attempts.c.number == ref.number, attempts.c.lease == ref.lease)
    _must_hit(tx, update(attempts).where(*guard, attempts.c.state != "ended").values(**values), ref)


def _must_hit(tx: Connection, statement: Any, what: object) -> None:
    if tx.execute(statement).rowcount != 1:
        raise StaleWriteError(f"no row matches {what}")


def _note(tx: Connection, job: JobId, attempt: int | None, kind: str, at: datetime, **data: Any) -> None:
    tx.execute(insert(events).values(job_id=job, attempt=attempt, at=at, type=kind, data=data))
