"""Given these events, these commands."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from rgrid.domain.ids import JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptRef, Ending, NodeInfo
from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason, Retry
from rgrid.domain.resources import MIB, Resources
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid.scheduling.cluster import Cluster
from rgrid.scheduling.reactor import place, react

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = Resources(1000, 512 * MIB)


class World:
    """A cluster with its clock; every step is checked."""

    def __init__(self) -> None:
        self.cluster = Cluster(term=1, lost_after_seconds=30, rejoin_until=NOW)
        self.now = NOW

    def __call__(self, *events: ev.Event) -> list[cmd.Command]:
        """Take in a batch."""
        done: list[cmd.Command] = []
        for event in events:
            done += react(self.cluster, event, self.now)
        done += place(self.cluster)
        self.cluster.check()
        return done

    def later(self, seconds: float) -> list[cmd.Command]:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self(ev.TimePassed())


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.check()


def job(name: str, *, priority: int = 0, resources: Resources = SMALL, retries: int = 0) -> ev.JobSubmitted:
    return ev.JobSubmitted(JobId(name), Owner("me"), priority, resources, NOW, max_retries=retries)


def node(name: str = "n1", cpus: int = 1, *, unready: str = "") -> NodeInfo:
    return NodeInfo(NodeName(name), Resources(cpus * 1000, 8192 * MIB), unready=unready)


def ended(ref: AttemptRef, reason: EndReason = EndReason.EXIT, code: int | None = 0) -> ev.AttemptEnded:
    return ev.AttemptEnded(ref, Ending(reason, NOW, code))


def assigned(done: list[cmd.Command]) -> list[tuple[str, str]]:
    return [(c.ref.job, c.node) for c in done if isinstance(c, cmd.AssignAttempt)]


def refs(done: list[cmd.Command]) -> list[AttemptRef]:
    return [c.ref for c in done if isinstance(c, cmd.StartAttempt)]


def test_a_job_goes_to_a_node_with_room_and_is_written_before_it_is_sent(world: World) -> None:
    world(ev.NodeRegistered(node()))
    ref = AttemptRef(JobId("j1"), 1, Lease("1.1"))
    assert world(job("j1")) == [cmd.AssignAttempt(ref, NodeName("n1")), cmd.StartAttempt(NodeName("n1"), ref)]


def test_first_come_first_served_within_a_priority(world: World) -> None:
    world(job("j1"), job("j2"), job("j3", priority=5))
    assert assigned(world(ev.NodeRegistered(node(cpus=3)))) == [("j3", "n1"), ("j1", "n1"), ("j2", "n1")]


def test_told_twice_is_known_once(world: World) -> None:
    world(ev.NodeRegistered(node(cpus=4)))
    assert len(refs(world(job("j1"), job("j1")))) == 1
    assert world(job("j1")) == []


def test_a_small_job_does_not_slip_past_a_large_one(world: World) -> None:
    world(ev.NodeRegistered(node(cpus=2)), job("j0"))
    assert world(job("j1", resources=Resources(2000, MIB)), job("j2")) == []


def test_what_fits_no_node_holds_nobody_back(world: World) -> None:
    world(ev.NodeRegistered(node(cpus=2)))
    assert assigned(world(job("j1", resources=Resources(64_000, MIB)), job("j2"))) == [("j2", "n1")]


def test_large_gaps_are_kept(world: World) -> None:
    world(ev.NodeRegistered(node("big", 8)), ev.NodeRegistered(node("little", 1)))
    assert assigned(world(job("j1"))) == [("j1", "little")]


def test_an_end_makes_room_for_the_next(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    assert world(job("j2")) == []
    done = world(ev.AttemptStarted(ref, NOW), ended(ref))
    assert isinstance(done[0], cmd.RecordStart)
    assert done[1] == cmd.EndAttempt(ref, Ending(EndReason.EXIT, NOW, 0), State.SUCCEEDED)
    assert assigned(done) == [("j2", "n1")]
    assert JobId("j1") not in world.cluster.jobs, "an ended job is forgotten"


def test_a_report_told_again_changes_nothing(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    assert len(world(ev.AttemptStarted(ref, NOW))) == 1
    assert world(ev.AttemptStarted(ref, NOW)) == []
    assert len(world(ended(ref))) == 1
    assert world(ended(ref), ev.AttemptStarted(ref, NOW)) == []


def test_a_stale_lease_changes_nothing(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    assert world(ended(AttemptRef(ref.job, ref.number, Lease("0.9")))) == []
    assert world(ended(AttemptRef(ref.job, 2, ref.lease))) == []


def test_cancel_while_waiting_ends_at_once(world: World) -> None:
    world(job("j1"))
    [end] = world(ev.CancelRequested(JobId("j1")))
    assert isinstance(end, cmd.EndJob)
    assert end.state is State.CANCELLED
    assert world(ev.NodeRegistered(node()))[1:] == []


def test_cancel_while_running_stops_and_asking_again_only_counts_with_now(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1", retries=3)))
    world(ev.AttemptStarted(ref, NOW))
    assert world(ev.CancelRequested(JobId("j1"))) == [
        cmd.MarkStopping(ref, now=False),
        cmd.StopAttempt(NodeName("n1"), ref, now=False),
    ]
    assert world(ev.CancelRequested(JobId("j1"))) == []
    assert world(ev.CancelRequested(JobId("j1"), now=True))[1] == cmd.StopAttempt(NodeName("n1"), ref, now=True)
    [end] = world(ended(ref, EndReason.CANCELLED, 143))
    assert isinstance(end, cmd.EndAttempt)
    assert end.state is State.CANCELLED, "what was asked to stop is not tried again"


def test_it_ended_by_itself_before_the_stop_reached_it(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    world(ev.CancelRequested(JobId("j1")))
    [end] = world(ended(ref))
    assert isinstance(end, cmd.EndAttempt)
    assert end.state is State.SUCCEEDED


def test_a_failure_is_tried_again_as_often_as_asked(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1", retries=1)))
    done = world(ended(ref, code=1))
    assert done[0] == cmd.EndAttempt(ref, Ending(EndReason.EXIT, NOW, 1), State.QUEUED, Retry.CHARGED)
    [again] = refs(done)
    assert again.number == 2
    assert again.lease != ref.lease
    [end] = world(ended(again, code=1))
    assert isinstance(end, cmd.EndAttempt)
    assert end.state is State.FAILED


def test_a_silent_node_is_lost_and_its_attempts_go_elsewhere_uncharged(world: World) -> None:
    world(ev.NodeRegistered(node("n1")))
    [ref] = refs(world(job("j1")))
    world(ev.NodeRegistered(node("n2")))
    assert world.later(20) == []
    world(ev.HeartbeatReceived(node("n2")))
    done = world.later(20)
    assert cmd.RecordNode(node("n1"), "lost") in done
    [end] = [c for c in done if isinstance(c, cmd.EndAttempt)]
    assert (end.ending.reason, end.state, end.retry) == (EndReason.NODE_LOST, State.QUEUED, Retry.FREE)
    assert assigned(done) == [("j1", "n2")]
    assert world(ended(ref)) == [], "what the lost node says counts no more"


def test_a_node_that_returns_is_told_to_discard(world: World) -> None:
    world(ev.NodeRegistered(node("n1")))
    [ref] = refs(world(job("j1")))
    world.later(31)
    assert world(ev.HeartbeatReceived(node("n1"))) == [], "it must register first"
    done = world(ev.NodeRegistered(node("n1"), (ref,)))
    assert cmd.DiscardAttempt(NodeName("n1"), ref) in done
    assert [r.number for r in refs(done)] == [2]


def test_ray_calling_a_node_dead_costs_no_attempt(world: World) -> None:
    world(ev.NodeRegistered(node("n1")))
    world(job("j1"))
    assert world(ev.NodeSuspected(NodeName("n1"))) == [cmd.RecordNode(node("n1"), "suspect")]
    assert world(job("j2")) == []
    assert world(ev.HeartbeatReceived(node("n1"))) == [cmd.RecordNode(node("n1"), "ready")]


def test_an_order_that_was_lost_is_sent_again(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    assert refs(world(ev.NodeRegistered(node()))) == [ref]


def test_a_container_that_is_gone_is_engine_lost(world: World) -> None:
    world(ev.NodeRegistered(node()))
    [ref] = refs(world(job("j1")))
    world(ev.AttemptStarted(ref, NOW))
    done = world(ev.NodeRegistered(node()))
    [end] = [c for c in done if isinstance(c, cmd.EndAttempt)]
    assert end.ending.reason is EndReason.ENGINE_LOST
    assert len(refs(done)) == 1


def test_an_unready_node_gets_nothing(world: World) -> None:
    world(ev.NodeRegistered(node(unready="no Docker")))
    assert world(job("j1")) == []
    assert assigned(world(ev.HeartbeatReceived(node()))) == [("j1", "n1")]


def test_a_new_scheduler_takes_up_what_is_there() -> None:
    world = World()
    world.cluster.rejoin_until = NOW + timedelta(seconds=90)
    ref = AttemptRef(JobId("j1"), 3, Lease("1.7"))
    stopping = AttemptRef(JobId("j2"), 1, Lease("1.8"))
    world(
        ev.NodeRestored(node(cpus=2)),
        ev.JobRestored(job("j1"), State.RUNNING, ref, NodeName("n1")),
        ev.JobRestored(job("j2"), State.STOPPING, stopping, NodeName("n1")),
    )
    assert world(job("j3")) == [], "its node is full, and suspect"
    assert world.later(60) == [], "silent nodes have a grace to report"
    done = world(ev.NodeRegistered(node(cpus=2), (ref, stopping)))
    assert cmd.StopAttempt(NodeName("n1"), stopping, now=False) in done
    assert assigned(world(ended(ref))) == [("j3", "n1")]


def test_the_grace_is_only_for_nodes_that_have_not_reported_yet() -> None:
    world = World()
    world.cluster.rejoin_until = NOW + timedelta(seconds=90)
    world(ev.NodeRestored(node("old")), ev.NodeRegistered(node("new")))
    assert [c.info.name for c in world.later(40) if isinstance(c, cmd.RecordNode)] == ["new"]


def test_the_grace_after_a_restart_ends() -> None:
    world = World()
    world.cluster.rejoin_until = NOW + timedelta(seconds=90)
    ref = AttemptRef(JobId("j1"), 1, Lease("1.7"))
    world(ev.NodeRestored(node()), ev.JobRestored(job("j1"), State.RUNNING, ref, NodeName("n1")))
    done = world.later(91)
    assert [c.ending.reason for c in done if isinstance(c, cmd.EndAttempt)] == [EndReason.NODE_LOST]


def test_time_in_which_nobody_listened_is_no_silence(world: World) -> None:
    world(ev.NodeRegistered(node()))
    world.now += timedelta(seconds=3600)
    assert world(ev.TimeSkipped(3599), ev.TimePassed()) == []
    assert [c.state for c in world.later(31) if isinstance(c, cmd.RecordNode)] == ["lost"]


def test_a_clock_set_back_hides_no_silence(world: World) -> None:
    world(ev.NodeRegistered(node()))
    world.now -= timedelta(seconds=3600)
    assert world(ev.TimeSkipped(-3600), ev.TimePassed()) == []
    assert [c.state for c in world.later(31) if isinstance(c, cmd.RecordNode)] == ["lost"]


def test_lost_nodes_do_not_use_up_what_a_fault_of_our_own_is_allowed(world: World) -> None:
    world(ev.NodeRegistered(node()))
    done = world(job("j1"))
    for reason in (EndReason.NODE_LOST, EndReason.NODE_LOST, EndReason.INTERNAL, EndReason.INTERNAL):
        [ref] = refs(done)
        done = world(ended(ref, reason, None))
    [ref] = refs(done)
    [end] = [c for c in world(ended(ref, EndReason.INTERNAL, None)) if isinstance(c, cmd.EndAttempt)]
    assert end.state is State.FAILED
