"""Why an attempt ended: a pure judgement over what the engine, the cgroup and our own deeds testify.

Exit code 137 proves nothing: a user may exit with it, RGrid may have sent the kill, the kernel may have. So the order
of the questions matters: first what *we* did (a stop we sent before the process was gone), then what the kernel did
(`oom` events, the cgroup's own counter), then what the engine lost, and only then the exit code.
"""

import signal
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import format_memory
from rgrid_actors.containers.port import Exit

#: Why RGrid itself stopped a container.
Stopper = Literal["timeout", "cancel", "disk"]
_SIGNAL_BASE = 128


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a container no longer runs."""

    exit: Exit
    memory_limit: int
    timeout: timedelta
    elapsed: timedelta | None
    #: Why and when we sent the first signal, if we did.
    stopped_by: Stopper | None = None
    stopped_at: datetime | None = None
    #: `oom` events the engine sent, and kills the container's cgroup counted.
    oom_events: int = 0
    oom_kills: int = 0
    peak_memory_bytes: int | None = None
    #: The engine was away while the container was to run.
    engine_was_away: bool = False
    disk_limit: int = 0
    disk_used: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reason, and one line for people."""

    reason: EndReason
    exit_code: int | None
    message: str
    signal: str | None = None


def judge(evidence: Evidence) -> Verdict:
    """Say why it ended."""
    code = evidence.exit.exit_code
    if evidence.stopped_by is not None and not _was_over(evidence):
        return _stopped(evidence, code)
    oom = evidence.oom_events > 0 or evidence.oom_kills > 0 or evidence.exit.oom_killed
    if oom and code != 0:
        return Verdict(EndReason.OOM, code, _oom_words(evidence))
    if code is None or (evidence.engine_was_away and code >= _SIGNAL_BASE):
        return Verdict(EndReason.ENGINE_LOST, code, "the Docker engine went away and took the container with it")
    if (name := _signal_name(code)) is not None:
        return Verdict(EndReason.SIGNAL, code, f"ended by {name} (exit code {code}), which RGrid did not send", name)
    return Verdict(EndReason.EXIT, code, f"exit code {code}")


def facts(evidence: Evidence) -> dict[str, str | int | float | bool | None]:
    """Return what the judgement rests on, to be stored with the attempt."""
    return {
        "exit_code": evidence.exit.exit_code,
        "engine_oom_killed": evidence.exit.oom_killed,
        "oom_events": evidence.oom_events,
        "cgroup_oom_kills": evidence.oom_kills,
        "memory_limit_bytes": evidence.memory_limit,
        "stopped_by": evidence.stopped_by,
        "elapsed_seconds": None if evidence.elapsed is None else round(evidence.elapsed.total_seconds(), 3),
        "timeout_seconds": evidence.timeout.total_seconds(),
        "engine_was_away": evidence.engine_was_away,
    }


def _was_over(evidence: Evidence) -> bool:
    """Say whether the process had ended by itself before our signal was sent."""
    finished, stopped = evidence.exit.finished_at, evidence.stopped_at
    return finished is not None and stopped is not None and finished <= stopped


def _stopped(evidence: Evidence, code: int | None) -> Verdict:
    ran = "" if evidence.elapsed is None else f" after {evidence.elapsed.total_seconds():.1f} s"
    match evidence.stopped_by:
        case "timeout":
            limit = evidence.timeout.total_seconds()
            return Verdict(EndReason.TIMEOUT, code, f"stopped{ran}: its time limit is {limit:g} s")
        case "disk":
            used, limit_bytes = format_memory(evidence.disk_used), format_memory(evidence.disk_limit)
            return Verdict(EndReason.DISK, code, f"its workspace held {used}; the limit is {limit_bytes}")
        case _:
            return Verdict(EndReason.CANCELLED, code, f"stopped on request{ran}")


def _oom_words(evidence: Evidence) -> str:
    peak = "" if evidence.peak_memory_bytes is None else f", peak {format_memory(evidence.peak_memory_bytes)}"
    limit = format_memory(evidence.memory_limit)
    return f"out of memory: limit {limit}{peak} (/tmp counts as memory)"


def _signal_name(code: int) -> str | None:
    try:
        return signal.Signals(code - _SIGNAL_BASE).name
    except ValueError:
        return None
