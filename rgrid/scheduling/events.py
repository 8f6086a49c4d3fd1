"""What the scheduler learns, as past participles. The actor around the core feeds them in one at a time."""

from dataclasses import dataclass
from datetime import datetime

from rgrid.domain.ids import JobId, NodeName, Owner
from rgrid.domain.job import AttemptRef, Ending, NodeInfo
from rgrid.domain.lifecycle import State
from rgrid.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A job waits that the scheduler did not know."""

    job: JobId
    owner: Owner
    priority: int
    resources: Resources
    queued_at: datetime
    max_retries: int = 0
    charged: int = 0
    free: int = 0
    #: Attempts it had before, so that the next one gets the next number.
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class JobRestored:
    """A scheduler that begins finds this job on a node."""

    submitted: JobSubmitted
    state: State
    ref: AttemptRef
    node: NodeName


@dataclass(frozen=True, slots=True)
class NodeRestored:
    """A scheduler that begins finds this node on record; whether it lives is to be heard."""

    info: NodeInfo


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody who may asked for the end of a job."""

    job: JobId
    #: Skip the grace.
    now: bool = False


@dataclass(frozen=True, slots=True)
class NodeRegistered:
    """An executor began, or met a new scheduler, and says what it holds, unacknowledged endings among it."""

    info: NodeInfo
    held: tuple[AttemptRef, ...] = ()


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """An executor is alive."""

    info: NodeInfo


@dataclass(frozen=True, slots=True)
class NodeSuspected:
    """Ray says the node is dead. That alone costs no attempt: only silence does."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class AttemptProgressed:
    """An executor tells what it does before the container runs."""

    ref: AttemptRef
    phase: str
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An executor saw the container run."""

    ref: AttemptRef
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended, with proof."""

    ref: AttemptRef
    ending: Ending


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened but time."""


@dataclass(frozen=True, slots=True)
class TimeSkipped:
    """The clock was set, or the scheduler stood still: that it heard nobody in these seconds proves nothing."""

    #: Less than nothing when the clock was set back.
    seconds: float


Event = (
    JobSubmitted
    | JobRestored
    | NodeRestored
    | CancelRequested
    | NodeRegistered
    | HeartbeatReceived
    | NodeSuspected
    | AttemptProgressed
    | AttemptStarted
    | AttemptEnded
    | TimePassed
    | TimeSkipped
)
#: What executors report, again and again until it is acknowledged.
Report = AttemptProgressed | AttemptStarted | AttemptEnded
