"""The gateway's side of the jobs: wishes are recorded, questions answered. Where a job is in its life is never changed
here; the scheduler is told, and does that.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from rgrid.domain.dependencies import Lock
from rgrid.domain.ids import Digest, JobId
from rgrid.domain.job import JobSpec
from rgrid.domain.lifecycle import LIVE, ON_NODE, TERMINAL, State
from rgrid.domain.resources import Resources, format_cpus, format_memory
from rgrid.errors import Code, RGridError
from rgrid.store import channels
from rgrid.store.blobs import PostgresBlobs, missing_blobs
from rgrid.store.engine import translate_errors
from rgrid.store.job_rows import event_view, job_view, node_view, output_view
from rgrid.store.new_ids import ALPHABET, new_job_id
from rgrid.store.ports import Principal
from rgrid.store.specs import spec_to_json
from rgrid.store.tables import attempts, blobs, events, job_inputs, job_locks, jobs, locks, nodes, outputs
from rgrid.wire import EventView, JobPage, JobView, NodeView, OutputView, Submission

Row = Mapping[Any, Any]


class PostgresJobs:
    """`JobStore` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def submit(
        self, who: Principal, submission: Submission, spec: JobSpec, *, idempotency_key: str | None = None
    ) -> tuple[JobView, bool]:
        """Insert job, inputs and event at once. The unique (owner, key) decides between two at the same moment."""
        digest = submission_hash(submission)
        job = new_job_id()
        row = {
            "id": job,
            "owner": who.owner,
            "name": submission.name or submission.script.rsplit("/", 1)[-1],
            "state": State.QUEUED,
            "priority": submission.priority,
            "spec": spec_to_json(spec),
            "cpu_millis": spec.resources.cpu_millis,
            "memory_bytes": spec.resources.memory_bytes,
            "labels": submission.labels,
            "idempotency_key": idempotency_key,
            "submission_hash": digest,
        }
        with translate_errors(), self._engine.begin() as tx:
            new = upsert(jobs).values(**row, submitted_at=func.now(), queued_at=func.now())
            made = tx.execute(
                new.on_conflict_do_nothing(index_elements=["owner", "idempotency_key"]).returning(jobs)
            ).mappings()
            if (found := made.first()) is None:
                return self._repeated(tx, who, idempotency_key, digest), False
            # Held against whoever deletes what no job names: this one will, in a moment.
            held = select(blobs.c.digest).where(blobs.c.digest.in_({file.digest for file in spec.inputs}))
            tx.execute(held.order_by(blobs.c.digest).with_for_update(read=True, key_share=True))
            # Only of a new job: what the first submission was for holds, whatever became of its inputs since.
            if lacking := missing_blobs(tx, {file.digest for file in spec.inputs}, who.owner):
                raise RGridError(
                    Code.INPUTS_MISSING, f"{len(lacking)} inputs are not uploaded yet", digests=sorted(lacking)
                )
            _check_sizes(tx, spec)
            if spec.inputs:
                tx.execute(
                    insert(job_inputs),
                    [
                        {"job_id": job, "path": f.path, "digest": f.digest, "size": f.size, "executable": f.executable}
                        for f in spec.inputs
                    ],
                )
            tx.execute(insert(events).values(job_id=job, at=func.now(), type="submitted", data={}))
            _tell_scheduler(tx, job)
            return job_view(found), True

    def get(self, who: Principal, job: str) -> JobView:
        """Return one job with its attempts."""
        with translate_errors(), self._engine.connect() as tx:
            row = _find(tx, who, job)
            tried = select(attempts).where(attempts.c.job_id == row["id"]).order_by(attempts.c.number)
            shown = job_view(row, tx.execute(tried).mappings().all())
            if shown.state is State.QUEUED and not shown.message:
                shown = shown.model_copy(update={"message": _obstacle(tx, row)})
            return shown

    def page(
        self,
        who: Principal,
        *,
        states: Sequence[State] = (),
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Return jobs newest first; the next page begins before the last id of this one."""
        wanted = select(jobs).order_by(jobs.c.id.desc()).limit(limit + 1)
        if not who.admin:
            wanted = wanted.where(jobs.c.owner == who.owner)
        if owner is not None:
            wanted = wanted.where(jobs.c.owner == owner)
        if states:
            wanted = wanted.where(jobs.c.state.in_(states))
        if name is not None:
            wanted = wanted.where(jobs.c.name == name)
        if labels:
            wanted = wanted.where(jobs.c.labels.contains(dict(labels)))
        if before is not None:
            wanted = wanted.where(jobs.c.id < before)
        with translate_errors(), self._engine.connect() as tx:
            rows = tx.execute(wanted).mappings().all()
        more = len(rows) > limit
        return JobPage(jobs=[job_view(row) for row in rows[:limit]], next=rows[limit - 1]["id"] if more else None)

    def counts(self, who: Principal) -> dict[State, int]:
        """Count over live jobs only: the past may be long."""
        wanted = select(jobs.c.state, func.count()).where(jobs.c.state.in_(LIVE)).group_by(jobs.c.state)
        if not who.admin:
            wanted = wanted.where(jobs.c.owner == who.owner)
        with translate_errors(), self._engine.connect() as tx:
            found = {State(state): int(count) for state, count in tx.execute(wanted)}
        return {state: found.get(state, 0) for state in State if state in LIVE}

    def cancel(self, who: Principal, job: str, *, now: bool) -> JobView:
        """Write the wish down; it works while the scheduler is away."""
        with translate_errors(), self._engine.begin() as tx:
            row = _find(tx, who, job)
            wish = update(jobs).where(jobs.c.id == row["id"], jobs.c.state.not_in(TERMINAL))
            wish = wish.values(
                cancel_requested_at=func.coalesce(jobs.c.cancel_requested_at, func.now()),
                cancel_now=jobs.c.cancel_now | now,
            )
            if tx.execute(wish).rowcount:
                asked = {"job_id": row["id"], "type": "cancel-requested", "data": {"by": who.owner, "now": now}}
                tx.execute(insert(events).values(**asked, at=func.now()))
                _tell_scheduler(tx, row["id"])
        return self.get(who, row["id"])

    def events(self, who: Principal, job: str) -> list[EventView]:
        """Return what happened to a job."""
        with translate_errors(), self._engine.connect() as tx:
            row = _find(tx, who, job)
            wanted = select(events).where(events.c.job_id == row["id"]).order_by(events.c.id)
            return [event_view(event) for event in tx.execute(wanted).mappings()]

    def outputs(self, who: Principal, job: str) -> list[OutputView]:
        """Return what the last ended attempt left behind."""
        with translate_errors(), self._engine.connect() as tx:
            return [output_view(row) for row in _outputs(tx, _find(tx, who, job)["id"])]

    def open_output(self, who: Principal, job: str, path: str) -> tuple[OutputView, Iterator[bytes]]:
        """Return one output and its bytes."""
        for output in self.outputs(who, job):
            if output.path == path:
                return output, PostgresBlobs(self._engine).open(Digest(output.digest))
        raise RGridError(Code.OUTPUT_NOT_FOUND, f"job {job} has no output {path!r}")

    def nodes(self) -> list[NodeView]:
        """Return every node; what runs is counted over live jobs only."""
        held = (
            select(
                jobs.c.node,
                func.sum(jobs.c.cpu_millis).label("cpu"),
                func.sum(jobs.c.memory_bytes).label("memory"),
                func.count().label("jobs"),
            )
            .where(jobs.c.state.in_(ON_NODE))
            .group_by(jobs.c.node)
            .subquery()
        )
        wanted = (
            select(
                nodes,
                func.coalesce(held.c.cpu, 0).label("cpu_millis_used"),
                func.coalesce(held.c.memory, 0).label("memory_bytes_used"),
                func.coalesce(held.c.jobs, 0).label("jobs"),
            )
            .outerjoin(held, held.c.node == nodes.c.name)
            .order_by(nodes.c.name)
        )
        with translate_errors(), self._engine.connect() as tx:
            return [node_view(row) for row in tx.execute(wanted).mappings()]

    def lock(self, who: Principal, job: str) -> Lock | None:
        """Return the lock of one job."""
        with translate_errors(), self._engine.connect() as tx:
            name = _find(tx, who, job)["id"]
            row = tx.execute(select(locks).join(job_locks).where(job_locks.c.job_id == name)).mappings().first()
        return None if row is None else Lock(row["format"], row["text"])

    def phase(self, job: JobId) -> tuple[State, int, str]:
        """Return a job's state, its current attempt and what it does on its way up, for whoever follows it."""
        last = select(events.c.type, events.c.data).where(events.c.job_id == job).order_by(events.c.id.desc()).limit(1)
        with translate_errors(), self._engine.connect() as tx:
            found = tx.execute(select(jobs).where(jobs.c.id == job)).mappings().one()
            event = tx.execute(last).first()
            detail = _obstacle(tx, found) if found["state"] == State.QUEUED else ""
        if event is not None and event.type == "progress":
            detail = str(event.data.get("detail") or event.data.get("phase") or "")
        return State(found["state"]), found["attempt"], detail

    def _repeated(self, tx: Connection, who: Principal, key: str | None, digest: bytes) -> JobView:
        first = select(jobs).where(jobs.c.owner == who.owner, jobs.c.idempotency_key == key)
        row = tx.execute(first).mappings().one()
        if bytes(row["submission_hash"]) != digest:
            raise RGridError(Code.IDEMPOTENCY_CONFLICT, f"idempotency key {key!r} was used for another submission")
        return job_view(row)


def submission_hash(submission: Submission) -> bytes:
    """Return what tells one submission from another: not the order of its keys, nor defaults that a version may add."""
    canonical = json.dumps(submission.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


def _check_sizes(tx: Connection, spec: JobSpec) -> None:
    """Hold what a submission says of its inputs against the inputs: limits are checked by it."""
    wanted = select(blobs.c.digest, blobs.c.size).where(blobs.c.digest.in_({file.digest for file in spec.inputs}))
    sizes = {row.digest: row.size for row in tx.execute(wanted)}
    for file in spec.inputs:
        if sizes[file.digest] != file.size:
            raise RGridError(
                Code.SUBMISSION_INVALID, f"{file.path} has {sizes[file.digest]} bytes, not the {file.size} submitted"
            )


def _find(tx: Connection, who: Principal, job: str) -> Row:
    """Return the job with this id, or with an id that begins like this. Another owner's does not exist."""
    mine: list[ColumnElement[bool]] = [] if who.admin else [jobs.c.owner == who.owner]
    # Ids are digits and lowercase letters, which every collation orders alike: a range uses the primary key's index.
    like = jobs.c.id.between(job, job.ljust(16, "z"))
    found = select(jobs).where(like, *mine).order_by(jobs.c.id).limit(2)
    rows = tx.execute(found).mappings().all() if job and ALPHABET.issuperset(job) else []
    if not rows:
        raise RGridError(Code.JOB_NOT_FOUND, f"there is no job {job!r}")
    if len(rows) > 1 and rows[0]["id"] != job:
        raise RGridError(Code.JOB_AMBIGUOUS, f"more than one job's id begins with {job!r}")
    return rows[0]


def _obstacle(tx: Connection, job: Row) -> str:
    """Say why a waiting job will go on waiting, if that is plain: no node is there, or none is large enough."""
    wish = Resources(job["cpu_millis"], job["memory_bytes"])
    capacities = [
        Resources(node.cpu_millis, node.memory_bytes)
        for node in tx.execute(select(nodes.c.cpu_millis, nodes.c.memory_bytes).where(nodes.c.state == "ready"))
    ]
    if not capacities:
        return "no node is ready"
    if any(wish.fits(capacity) for capacity in capacities):
        return ""
    asked = f"{format_cpus(wish.cpu_millis)} CPUs and {format_memory(wish.memory_bytes)}"
    return f"no node is large enough for the {asked} it asks for"


def _outputs(tx: Connection, job: str) -> Sequence[Row]:
    last = select(func.max(attempts.c.number)).where(attempts.c.job_id == job, attempts.c.state == "ended")
    wanted = select(outputs).where(outputs.c.job_id == job, outputs.c.attempt == last.scalar_subquery())
    return tx.execute(wanted.order_by(outputs.c.path)).mappings().all()


def _tell_scheduler(tx: Connection, job: str) -> None:
    tx.execute(text("SELECT pg_notify(:channel, :job)"), {"channel": channels.WORK, "job": job})
