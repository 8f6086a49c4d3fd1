"""The life cycle table and everything that is made from it."""

import re
from pathlib import Path

import pytest

from rgrid.domain import lifecycle
from rgrid.domain.lifecycle import INITIAL, LIVE, ON_NODE, TERMINAL, TRANSITIONS, Event, IllegalTransitionError, State
from rgrid.domain.reasons import RETRY_OF, STATE_OF, WORDS, EndReason, end_state
from rgrid.domain.retry import MAX_FREE_RETRIES, is_retried
from rgrid.store.tables import metadata

ILLEGAL = [(state, event) for state in State for event in Event if (state, event) not in TRANSITIONS]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_what_is_not_in_the_table_cannot_happen(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransitionError, match="cannot happen to a job") as caught:
        lifecycle.next_state(state, event, "job j7")
    assert "job j7" in str(caught.value)


def test_terminal_states_are_the_ends() -> None:
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == TERMINAL
    assert set(State) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_every_live_state_is_reached_and_left() -> None:
    reached = INITIAL | set(TRANSITIONS.values())
    assert reached == set(State)
    for state in LIVE:
        seen, pending = set(), [state]
        while pending:
            here = pending.pop()
            seen.add(here)
            pending += [t for (s, _), t in TRANSITIONS.items() if s is here and t not in seen]
        assert seen & TERMINAL, f"{state} leads nowhere"


def test_checks_of_the_database_name_exactly_these_states() -> None:
    checks = {
        c.name.removeprefix("ck_jobs_"): str(c.sqltext)
        for c in metadata.tables["jobs"].constraints
        if hasattr(c, "sqltext")
    }
    assert set(re.findall(r"'([a-z-]+)'", checks["state"])) == set(State)
    assert set(re.findall(r"'([a-z-]+)'", checks["ended"])) == TERMINAL
    assert set(re.findall(r"'([a-z-]+)'", checks["leased"])) == ON_NODE
    assert set(re.findall(r"'([a-z-]+)'", checks["reason"])) == set(EndReason)


def test_every_member_says_who_puts_and_takes() -> None:
    source = Path(lifecycle.__file__).read_text()
    for member in [*State, *Event]:
        assert re.search(rf"#: .+\n    {member.name} = ", source), member


def test_tables_of_reasons_are_total() -> None:
    assert set(STATE_OF) == set(RETRY_OF) == set(WORDS) == set(EndReason)
    assert end_state(EndReason.EXIT, 0) is State.SUCCEEDED
    assert end_state(EndReason.EXIT, 1) is State.FAILED
    assert all(end_state(reason, 0) in TERMINAL for reason in EndReason)


def test_losses_of_the_grid_are_not_charged_and_have_an_end() -> None:
    def retried(reason: EndReason, **counts: int) -> bool:
        return is_retried(reason, exit_code=1, **({"charged": 0, "free": 0, "max_retries": 0} | counts))

    assert retried(EndReason.NODE_LOST)
    assert not retried(EndReason.NODE_LOST, free=MAX_FREE_RETRIES)
    assert retried(EndReason.INTERNAL, free=1)
    assert retried(EndReason.INTERNAL, free=5, internal=1), "lost nodes are no faults of our own"
    assert not retried(EndReason.INTERNAL, free=2, internal=2)
    assert not retried(EndReason.EXIT)
    assert retried(EndReason.EXIT, max_retries=1)
    assert not retried(EndReason.EXIT, max_retries=1, charged=1)
    assert not retried(EndReason.CANCELLED, max_retries=5)
    assert not is_retried(EndReason.EXIT, exit_code=0, charged=0, free=0, max_retries=5)


def test_a_diagram_draws_every_transition() -> None:
    drawn = lifecycle.diagram()
    assert all(f"{s} --> {t}: {e}" in drawn for (s, e), t in TRANSITIONS.items())
