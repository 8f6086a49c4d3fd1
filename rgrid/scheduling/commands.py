"""What the scheduler wants done, as imperatives. `Write`s are committed before any `Send` of the same batch leaves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rgrid.domain.ids import JobId, NodeName
from rgrid.domain.job import AttemptRef, Ending, NodeInfo
from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason, Retry

NodeState = Literal["ready", "unready", "suspect", "lost"]


@dataclass(frozen=True, slots=True)
class AssignAttempt:
    """Give a queued job to a node."""

    ref: AttemptRef
    node: NodeName


@dataclass(frozen=True, slots=True)
class RecordProgress:
    """Note what an attempt does on its way up."""

    ref: AttemptRef
    phase: str
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RecordStart:
    """Note that the container runs; `state` is the job's state after it."""

    ref: AttemptRef
    state: State
    at: datetime


@dataclass(frozen=True, slots=True)
class MarkStopping:
    """Note that a job on a node was asked to stop."""

    ref: AttemptRef
    now: bool


@dataclass(frozen=True, slots=True)
class EndAttempt:
    """Note an attempt's end and what becomes of its job: an end, or the queue again."""

    ref: AttemptRef
    ending: Ending
    #: `queued` when it is tried again.
    state: State
    #: How a retry is counted.
    retry: Retry = Retry.NEVER


@dataclass(frozen=True, slots=True)
class EndJob:
    """End a job that is on no node."""

    job: JobId
    state: State
    reason: EndReason
    message: str = ""


@dataclass(frozen=True, slots=True)
class RecordNode:
    """Note what is known of a node."""

    info: NodeInfo
    state: NodeState


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Tell an executor to run an attempt. Repeating it does nothing more."""

    node: NodeName
    ref: AttemptRef


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Tell an executor to stop an attempt and report its end."""

    node: NodeName
    ref: AttemptRef
    now: bool


@dataclass(frozen=True, slots=True)
class DiscardAttempt:
    """Tell an executor that an attempt is not its any more: kill it and report nothing."""

    node: NodeName
    ref: AttemptRef


Write = AssignAttempt | RecordProgress | RecordStart | MarkStopping | EndAttempt | EndJob | RecordNode
Send = StartAttempt | StopAttempt | DiscardAttempt
Command = Write | Send
