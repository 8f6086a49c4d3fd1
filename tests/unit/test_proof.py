"""Why an attempt ended: every line of evidence that must not be mistaken for another."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import MIB
from rgrid_actors.containers.port import Exit
from rgrid_actors.proof import Evidence, facts, judge

AT = datetime(2026, 1, 1, tzinfo=UTC)


def evidence(code: int | None, **more: object) -> Evidence:
    gone = Exit(
        code, oom_killed=bool(more.pop("oom_killed", False)), started_at=AT, finished_at=AT + timedelta(seconds=5)
    )
    plain = Evidence(gone, 512 * MIB, timedelta(seconds=3), timedelta(seconds=5))
    return replace(plain, **more)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (evidence(0), EndReason.EXIT),
        (evidence(1), EndReason.EXIT),
        (evidence(137), EndReason.SIGNAL),
        (evidence(137, oom_events=1), EndReason.OOM),
        (evidence(137, oom_kills=1), EndReason.OOM),
        (evidence(137, oom_killed=True), EndReason.OOM),
        (evidence(1, oom_events=1), EndReason.OOM),
        (evidence(0, oom_events=1), EndReason.EXIT),
        (evidence(143, stopped_by="timeout", stopped_at=AT), EndReason.TIMEOUT),
        (evidence(137, stopped_by="cancel", stopped_at=AT), EndReason.CANCELLED),
        (evidence(137, stopped_by="disk", stopped_at=AT), EndReason.DISK),
        (evidence(0, stopped_by="timeout", stopped_at=AT + timedelta(seconds=6)), EndReason.EXIT),
        (evidence(137, engine_was_away=True), EndReason.ENGINE_LOST),
        (evidence(0, engine_was_away=True), EndReason.EXIT),
        (evidence(None), EndReason.ENGINE_LOST),
        (evidence(139), EndReason.SIGNAL),
        (evidence(255), EndReason.EXIT),
    ],
)
def test_reasons(found: Evidence, reason: EndReason) -> None:
    assert judge(found).reason is reason


def test_words_have_the_figures() -> None:
    oom = judge(evidence(137, oom_events=1, peak_memory_bytes=512 * MIB))
    assert oom.message == "out of memory: limit 512 MiB, peak 512 MiB (/tmp counts as memory)"
    assert (
        judge(evidence(143, stopped_by="timeout", stopped_at=AT)).message
        == "stopped after 5.0 s: its time limit is 3 s"
    )
    assert judge(evidence(139)).signal == "SIGSEGV"


def test_facts_are_plain_values() -> None:
    assert all(v is None or isinstance(v, str | int | float | bool) for v in facts(evidence(1)).values())
