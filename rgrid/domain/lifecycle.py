"""The life of a job: one table. Nothing outside this file decides a next state.

The diagram in `docs/lifecycle.md`, the CHECK constraints of the database and the tests of illegal pairs are all made
from `TRANSITIONS`. *Where* a job is stands here; *why* it ended stands in `reasons`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a job is."""

    #: Waits for other jobs. Put by the submission, taken out by the scheduler when those have ended.
    BLOCKED = "blocked"
    #: Waits for a node. Put by the submission or by a retry, taken out by the scheduler's choice of a node.
    QUEUED = "queued"
    #: Belongs to a node that prepares it (image, files). Put by the scheduler, taken out by the executor's report.
    ASSIGNED = "assigned"
    #: Its container runs. Put by the executor's report, taken out by the report of its end.
    RUNNING = "running"
    #: Was asked to stop and has not ended yet. Put by a cancel request, taken out by the report of the end.
    STOPPING = "stopping"
    #: Ended with exit code 0. Put by the scheduler on the executor's proof; nobody takes it out.
    SUCCEEDED = "succeeded"
    #: Ended otherwise; the reason says how. Put by the scheduler; nobody takes it out.
    FAILED = "failed"
    #: Ended because somebody asked. Put by the scheduler; nobody takes it out.
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a job."""

    #: Everything it waited for has ended.
    UNBLOCKED = "unblocked"
    #: The scheduler chose a node and committed the attempt.
    ASSIGNED = "assigned"
    #: The executor saw the container run.
    STARTED = "started"
    #: The owner, or an operator, asked for the end.
    CANCEL_REQUESTED = "cancel-requested"
    #: The attempt was lost or may be tried again.
    REQUEUED = "requeued"
    #: The attempt ended with exit code 0.
    SUCCEEDED = "succeeded"
    #: The attempt ended otherwise and is not tried again.
    FAILED = "failed"
    #: The attempt ended as it had been asked to.
    CANCELLED = "cancelled"


_S, _E = State, Event

TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (_S.BLOCKED, _E.UNBLOCKED): _S.QUEUED,
        (_S.BLOCKED, _E.CANCEL_REQUESTED): _S.CANCELLED,
        (_S.BLOCKED, _E.FAILED): _S.FAILED,
        (_S.QUEUED, _E.ASSIGNED): _S.ASSIGNED,
        (_S.QUEUED, _E.CANCEL_REQUESTED): _S.CANCELLED,
        (_S.QUEUED, _E.FAILED): _S.FAILED,
        (_S.ASSIGNED, _E.STARTED): _S.RUNNING,
        (_S.ASSIGNED, _E.CANCEL_REQUESTED): _S.STOPPING,
        (_S.ASSIGNED, _E.REQUEUED): _S.QUEUED,
        # The report of the start may be lost with its executor; the end speaks for both.
        (_S.ASSIGNED, _E.SUCCEEDED): _S.SUCCEEDED,
        (_S.ASSIGNED, _E.FAILED): _S.FAILED,
        (_S.RUNNING, _E.CANCEL_REQUESTED): _S.STOPPING,
        (_S.RUNNING, _E.REQUEUED): _S.QUEUED,
        (_S.RUNNING, _E.SUCCEEDED): _S.SUCCEEDED,
        (_S.RUNNING, _E.FAILED): _S.FAILED,
        # It was asked to stop while it was on its way up.
        (_S.STOPPING, _E.STARTED): _S.STOPPING,
        # Asking twice is not an error: the second time may say `--now`.
        (_S.STOPPING, _E.CANCEL_REQUESTED): _S.STOPPING,
        # It ended by itself before the stop reached it; what it did counts.
        (_S.STOPPING, _E.SUCCEEDED): _S.SUCCEEDED,
        (_S.STOPPING, _E.FAILED): _S.FAILED,
        (_S.STOPPING, _E.CANCELLED): _S.CANCELLED,
        # A stop may be reported to a scheduler that has not read of it; the executor knows what it did.
        (_S.ASSIGNED, _E.CANCELLED): _S.CANCELLED,
        (_S.RUNNING, _E.CANCELLED): _S.CANCELLED,
    }
)

#: States nothing leads out of: computed, so that the table stays the only authority.
TERMINAL: frozenset[State] = frozenset(State) - {state for state, _ in TRANSITIONS}
#: States in which the scheduler must know the job.
LIVE: frozenset[State] = frozenset(State) - TERMINAL
#: States in which an attempt exists and belongs to a node.
ON_NODE: frozenset[State] = frozenset({State.ASSIGNED, State.RUNNING, State.STOPPING})
#: States a submission may begin in.
INITIAL: frozenset[State] = frozenset({State.BLOCKED, State.QUEUED})


class IllegalTransitionError(Exception):
    """Something happened to a job that cannot happen to it: a bug of ours, never the user's."""

    def __init__(self, state: State, event: Event, story: str = "") -> None:
        """Remember the pair and the job's story, for whoever reads the log."""
        legal = ", ".join(sorted(e for s, e in TRANSITIONS if s is state)) or "nothing: it is an end"
        super().__init__(f"{event} cannot happen to a job that is {state} (possible: {legal}){story and ': ' + story}")
        self.state, self.event = state, event


def next_state(state: State, event: Event, story: str = "") -> State:
    """Return where `event` takes a job that is in `state`; raise `IllegalTransitionError` when it cannot happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(state, event, story) from None


def sources(target: State) -> frozenset[State]:
    """Return the states a job can be in just before it is in `target`, itself excluded: the guard of an UPDATE."""
    return frozenset(s for (s, _), t in TRANSITIONS.items() if t is target and s is not target)


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in State if state in INITIAL]
    lines += [f"    {s} --> {t}: {e}" for (s, e), t in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
