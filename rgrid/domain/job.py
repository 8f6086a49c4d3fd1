"""A job as submitted, an attempt as ordered, an ending as proven. Frozen values; nothing here acts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rgrid.domain.dependencies import Dependencies
from rgrid.domain.ids import Digest, JobId, Lease, NodeName, Owner
from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import DEFAULT_RESOURCES, DEFAULT_TIMEOUT, GIB, Resources


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the workspace as it was submitted."""

    #: Relative to the workspace, with `/`, never leaving it.
    path: str
    digest: Digest
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that was new or changed in the workspace when the script ended."""

    path: str
    digest: Digest
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything an executor needs to run a job; it does not change between attempts."""

    #: What the container runs, resolved by `rgrid.runtimes` at submission.
    command: tuple[str, ...]
    image: str
    #: The short name the image came from, or None when the user named an image of their own.
    runtime: str | None = None
    #: The script's path inside the workspace, for people to read.
    script: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    #: What it needs from a package index; None when nothing.
    dependencies: Dependencies | None = None
    resources: Resources = DEFAULT_RESOURCES
    #: Counts the script's run only.
    timeout: timedelta = DEFAULT_TIMEOUT
    #: Counts what comes before: image, environment, files.
    prepare_timeout: timedelta = timedelta(seconds=600)
    #: Between SIGTERM and SIGKILL.
    grace: timedelta = timedelta(seconds=10)
    network: bool = False
    pids_limit: int = 256
    disk_bytes: int = 2 * GIB
    log_bytes: int = 64 * 1024**2
    max_retries: int = 0


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """Which attempt is meant; every report and every order carries it, and stale ones are ignored."""

    job: JobId
    number: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class AttemptOrder:
    """What the scheduler sends an executor: this attempt is yours, run it."""

    ref: AttemptRef
    owner: Owner
    name: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an attempt's time went, in seconds; None where it did not get that far."""

    image: float | None = None
    environment: float | None = None
    start: float | None = None
    run: float | None = None
    collect: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, with its proof. Made by the executor; by the scheduler only for a lost node."""

    reason: EndReason
    at: datetime
    exit_code: int | None = None
    #: The signal's name when the reason is `signal`.
    signal: str | None = None
    #: One line for people: what happened, with the figures.
    message: str = ""
    #: Highest memory seen in the cgroup; None when the job was too short to sample.
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    #: Identifies the bits that ran, not the tag that named them.
    image_digest: str | None = None
    started_at: datetime | None = None
    timings: Timings = Timings()
    outputs: tuple[OutputFile, ...] = ()
    #: What the reason rests on: engine events, counters, elapsed against limit.
    proof: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What an executor says of its node when it registers and at each heartbeat."""

    name: NodeName
    capacity: Resources
    address: str = ""
    pid: int = 0
    engine: str = ""
    #: Why the node takes no work, or empty.
    unready: str = ""
