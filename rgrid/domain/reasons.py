"""Why an attempt ended, apart from where its job is. One enum and its three tables: to state, to retry, to words."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from rgrid.domain.lifecycle import State


class EndReason(StrEnum):
    """Why an attempt ended. Each is said only with proof; the proof is stored with the attempt."""

    #: The script's process ended by itself, with an exit code. Found by the executor.
    EXIT = "exit"
    #: A signal that RGrid did not send ended the process. Found by the executor.
    SIGNAL = "signal"
    #: The kernel killed for want of memory: the engine's `oom` event or the cgroup's counter, never exit code 137.
    OOM = "oom"
    #: The executor's own deadline passed and the executor stopped the container.
    TIMEOUT = "timeout"
    #: The job wrote more than its disk cap, or its node has no space.
    DISK = "disk"
    #: The image could not be had.
    IMAGE = "image"
    #: The environment of the script could not be resolved or built.
    DEPENDENCIES = "dependencies"
    #: An input could not be laid out as submitted.
    INPUT = "input"
    #: The script ended, but its outputs could not be collected.
    OUTPUT = "output"
    #: The node was lost with the attempt on it. Found by the scheduler.
    NODE_LOST = "node-lost"
    #: The node's Docker engine went away and took the container down, or the container is gone.
    ENGINE_LOST = "engine-lost"
    #: Its owner, or an operator, asked.
    CANCELLED = "cancelled"
    #: The grid will never run it: it asks for more than is allowed or than any node could give.
    REJECTED = "rejected"
    #: A fault of RGrid's own.
    INTERNAL = "internal"


class Retry(StrEnum):
    """What an ending means for the next attempt."""

    #: The same would happen again.
    NEVER = "never"
    #: Tried again if the submission allows retries; counted against them.
    CHARGED = "charged"
    #: Not the script's fault: tried again and not counted against the user's retries.
    FREE = "free"


_R = EndReason

#: `exit` is the one reason whose state depends on more: see `end_state`.
STATE_OF: Mapping[EndReason, State] = MappingProxyType(
    {
        _R.EXIT: State.FAILED,
        _R.SIGNAL: State.FAILED,
        _R.OOM: State.FAILED,
        _R.TIMEOUT: State.FAILED,
        _R.DISK: State.FAILED,
        _R.IMAGE: State.FAILED,
        _R.DEPENDENCIES: State.FAILED,
        _R.INPUT: State.FAILED,
        _R.OUTPUT: State.FAILED,
        _R.NODE_LOST: State.FAILED,
        _R.ENGINE_LOST: State.FAILED,
        _R.CANCELLED: State.CANCELLED,
        _R.REJECTED: State.FAILED,
        _R.INTERNAL: State.FAILED,
    }
)

RETRY_OF: Mapping[EndReason, Retry] = MappingProxyType(
    {
        _R.EXIT: Retry.CHARGED,
        _R.SIGNAL: Retry.CHARGED,
        _R.OOM: Retry.CHARGED,
        _R.TIMEOUT: Retry.CHARGED,
        _R.DISK: Retry.CHARGED,
        _R.IMAGE: Retry.NEVER,
        _R.DEPENDENCIES: Retry.NEVER,
        _R.INPUT: Retry.NEVER,
        _R.OUTPUT: Retry.CHARGED,
        _R.NODE_LOST: Retry.FREE,
        _R.ENGINE_LOST: Retry.FREE,
        _R.CANCELLED: Retry.NEVER,
        _R.REJECTED: Retry.NEVER,
        _R.INTERNAL: Retry.FREE,
    }
)

WORDS: Mapping[EndReason, str] = MappingProxyType(
    {
        _R.EXIT: "the script ended by itself",
        _R.SIGNAL: "a signal ended the script",
        _R.OOM: "the script needed more memory than its limit and the kernel killed it",
        _R.TIMEOUT: "the script ran longer than its time limit and was stopped",
        _R.DISK: "there was not enough disk space for the job",
        _R.IMAGE: "the image could not be had",
        _R.DEPENDENCIES: "the script's dependencies could not be installed",
        _R.INPUT: "an input could not be laid out",
        _R.OUTPUT: "the script ended, but its outputs could not be collected",
        _R.NODE_LOST: "the node was lost",
        _R.ENGINE_LOST: "the container was lost with its Docker engine",
        _R.CANCELLED: "somebody asked for it to stop",
        _R.REJECTED: "the grid cannot run it as asked",
        _R.INTERNAL: "RGrid failed, not the script",
    }
)


def end_state(reason: EndReason, exit_code: int | None) -> State:
    """Return the state an ending leads to when it is not tried again."""
    if reason is EndReason.EXIT and exit_code == 0:
        return State.SUCCEEDED
    return STATE_OF[reason]
