"""The tables. CHECK constraints come from the life cycle table; a test compares all with the migrations."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from rgrid.domain.lifecycle import LIVE, ON_NODE, TERMINAL, State
from rgrid.domain.reasons import EndReason

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def one_of(column: str, words: Iterable[str]) -> str:
    """Write `column IN (...)` with the words sorted, so that the constraint's text never depends on a set's order."""
    quoted = ", ".join(f"'{w}'" for w in sorted(words))
    return f"{column} IN ({quoted})"


def _at(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _json(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


#: One row: who this grid is and which scheduler's word counts.
grid = Table(
    "grid",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("id", Text, nullable=False),
    #: Raised by each scheduler that begins; a write under an older term changes nothing.
    Column("term", BigInteger, nullable=False, server_default=text("0")),
    Column("scheduler_pid", Integer),
    _at("scheduler_seen_at"),
    CheckConstraint("single", name="single"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    #: sha256 of the key: it is 256 random bits, so a slow hash would protect nothing more.
    Column("hash", LargeBinary, nullable=False, unique=True),
    _at("created_at", nullable=False),
    _at("revoked_at"),
    CheckConstraint(one_of("role", ["user", "admin"]), name="role"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    #: `JobSpec`, as it was resolved at submission.
    Column("spec", JSONB, nullable=False),
    Column("cpu_millis", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    _json("labels"),
    Column("idempotency_key", Text),
    #: What the idempotency key stands for, to tell a repetition from a mistake.
    Column("submission_hash", LargeBinary),
    #: The current attempt; the guard of every write while the job is on a node.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("lease", Text),
    Column("node", Text),
    Column("charged_retries", Integer, nullable=False, server_default=text("0")),
    Column("free_retries", Integer, nullable=False, server_default=text("0")),
    _at("submitted_at", nullable=False),
    _at("queued_at", nullable=False),
    _at("started_at"),
    _at("ended_at"),
    _at("cancel_requested_at"),
    Column("cancel_now", Boolean, nullable=False, server_default=text("false")),
    Column("peak_memory_bytes", BigInteger),
    UniqueConstraint("owner", "idempotency_key"),
    CheckConstraint(one_of("state", State), name="state"),
    CheckConstraint(one_of("reason", EndReason), name="reason"),
    CheckConstraint(f"({one_of('state', TERMINAL)}) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint(f"({one_of('state', TERMINAL)}) = (reason IS NOT NULL)", name="why"),
    CheckConstraint(f"({one_of('state', ON_NODE)}) = (lease IS NOT NULL)", name="leased"),
    Index("ix_jobs_owner_id", "owner", text("id DESC")),
    # Both stay as small as the present is, however long the past.
    Index("ix_jobs_live", "state", postgresql_where=text(one_of("state", LIVE))),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("lease", Text, nullable=False, unique=True),
    Column("node", Text, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("reason", Text),
    Column("exit_code", Integer),
    Column("signal", Text),
    Column("message", Text, nullable=False, server_default=""),
    _at("assigned_at", nullable=False),
    _at("started_at"),
    _at("ended_at"),
    Column("peak_memory_bytes", BigInteger),
    Column("cpu_seconds", Double),
    Column("image_digest", Text),
    _json("timings"),
    _json("proof"),
    CheckConstraint("number > 0", name="number"),
    CheckConstraint(one_of("state", ["assigned", "running", "ended"]), name="state"),
    CheckConstraint(one_of("reason", EndReason), name="reason"),
    CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("(state = 'ended') = (reason IS NOT NULL)", name="why"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer),
    _at("at", nullable=False),
    Column("type", Text, nullable=False),
    _json("data"),
    Index("ix_events_job_id_id", "job_id", "id"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("unready", Text, nullable=False, server_default=""),
    Column("address", Text, nullable=False, server_default=""),
    Column("cpu_millis", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("engine", Text, nullable=False, server_default=""),
    Column("pid", Integer),
    _at("last_seen_at"),
    CheckConstraint(one_of("state", ["ready", "unready", "suspect", "lost"]), name="state"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    _at("created_at", nullable=False),
    CheckConstraint("size >= 0", name="size"),
)

blob_chunks = Table(
    "blob_chunks",
    metadata,
    Column("digest", Text, ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

#: Who has shown that they have a blob's bytes. Knowing a digest is not the same.
blob_owners = Table(
    "blob_owners",
    metadata,
    Column("digest", Text, ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, primary_key=True),
)

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text, ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("executable", Boolean, nullable=False, server_default=text("false")),
)

outputs = Table(
    "outputs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text, ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("executable", Boolean, nullable=False, server_default=text("false")),
    ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"], ondelete="CASCADE"),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    #: Order in which the executor read both streams.
    Column("seq", Integer, primary_key=True),
    Column("stream", Text, nullable=False),
    #: Where this piece begins in its own stream, in bytes.
    Column("offset", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    #: How far the engine's own log was read, for whoever goes on reading it after a restart.
    Column("cursor", Text, nullable=False),
    ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"], ondelete="CASCADE"),
    CheckConstraint(one_of("stream", ["stdout", "stderr"]), name="stream"),
    UniqueConstraint("job_id", "attempt", "stream", "offset"),
)

#: Exactly what is installed, by the sha256 of its format and text; many jobs share one.
locks = Table(
    "locks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("format", Text, nullable=False),
    Column("text", Text, nullable=False),
    _at("created_at", nullable=False),
    CheckConstraint(one_of("format", ["requirements", "pylock", "npm"]), name="format"),
)

#: What a declaration was resolved to, by the digest of all that bears on it. The first answer stands.
resolutions = Table(
    "resolutions",
    metadata,
    Column("key", Text, primary_key=True),
    Column("lock_id", Text, ForeignKey("locks.id", ondelete="CASCADE"), nullable=False, index=True),
    _at("created_at", nullable=False),
    _at("used_at", nullable=False),
)

#: The lock a job runs with, in every attempt.
job_locks = Table(
    "job_locks",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("lock_id", Text, ForeignKey("locks.id"), nullable=False, index=True),
)
