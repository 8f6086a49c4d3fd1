"""Hypothesis drives the reactor with whatever can happen, in any order, told twice, told late."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from rgrid.domain.ids import JobId, NodeName, Owner
from rgrid.domain.job import AttemptRef, Ending, NodeInfo
from rgrid.domain.lifecycle import LIVE, ON_NODE, TERMINAL, State
from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import MIB, Resources
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid.scheduling.cluster import Cluster
from rgrid.scheduling.reactor import place, react

NODES = [NodeName(f"n{i}") for i in range(3)]


class Scheduling(RuleBasedStateMachine):
    """A store that applies every write under its guard, as Postgres does, and executors that may forget or repeat."""

    jobs = Bundle("jobs")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.cluster = Cluster(term=1, lost_after_seconds=30, rejoin_until=self.now)
        self.state: dict[JobId, State] = {}
        self.current: dict[JobId, AttemptRef] = {}
        self.numbers: dict[JobId, int] = {}
        self.leases: set[str] = set()
        self.ends: dict[JobId, int] = {}
        self.count = 0

    def feed(self, *events: ev.Event) -> list[cmd.Command]:
        done: list[cmd.Command] = []
        for event in events:
            done += react(self.cluster, event, self.now)
        done += place(self.cluster)
        written: set[AttemptRef] = set()
        for command in done:
            self.carry_out(command, written)
        return done

    def carry_out(self, command: cmd.Command, written: set[AttemptRef]) -> None:
        match command:
            case cmd.AssignAttempt(ref, _):
                assert self.state[ref.job] is State.QUEUED
                assert ref.number == self.numbers.get(ref.job, 0) + 1
                assert ref.lease not in self.leases, "a lease is never used twice"
                self.leases.add(ref.lease)
                self.numbers[ref.job] = ref.number
                self.state[ref.job], self.current[ref.job] = State.ASSIGNED, ref
                written.add(ref)
            case cmd.RecordStart(ref, state, _):
                assert self.current[ref.job] == ref
                assert self.state[ref.job] in {State.ASSIGNED, State.STOPPING}
                self.state[ref.job] = state
            case cmd.MarkStopping(ref, _):
                assert self.current[ref.job] == ref
                assert self.state[ref.job] in ON_NODE
                self.state[ref.job] = State.STOPPING
            case cmd.EndAttempt(ref, _, state, _):
                assert self.current.pop(ref.job) == ref
                assert self.state[ref.job] in ON_NODE
                self.state[ref.job] = state
            case cmd.EndJob(job, state, _, _):
                assert self.state[job] in LIVE - ON_NODE
                self.state[job] = state
            case cmd.StartAttempt(_, ref):
                assert self.current[ref.job] == ref, "nothing is sent that was not written"
        if isinstance(command, cmd.EndAttempt | cmd.EndJob):
            job = command.job if isinstance(command, cmd.EndJob) else command.ref.job
            if self.state[job] in TERMINAL:
                self.ends[job] = self.ends.get(job, 0) + 1
                assert self.ends[job] == 1, "no job ends twice"

    @rule(target=jobs, priority=st.integers(-2, 2), cpus=st.integers(1, 5), retries=st.integers(0, 2))
    def submit(self, priority: int, cpus: int, retries: int) -> JobId:
        self.count += 1
        name = JobId(f"j{self.count:04}")
        self.state[name] = State.QUEUED
        resources = Resources(cpus * 1000, MIB)
        self.feed(ev.JobSubmitted(name, Owner("me"), priority, resources, self.now, max_retries=retries))
        return name

    @rule(job=jobs, now=st.booleans())
    def cancel(self, job: JobId, now: bool) -> None:
        self.feed(ev.CancelRequested(job, now))

    @rule(target=attempts, job=jobs)
    def look(self, job: JobId) -> AttemptRef | None:
        return self.current.get(job)

    @rule(attempt=attempts)
    def started(self, attempt: AttemptRef | None) -> None:
        if attempt is not None:
            self.feed(ev.AttemptStarted(attempt, self.now))

    @rule(attempt=attempts, reason=st.sampled_from(list(EndReason)), code=st.sampled_from([0, 1, 137, None]))
    def ended(self, attempt: AttemptRef | None, reason: EndReason, code: int | None) -> None:
        if attempt is not None:
            self.feed(ev.AttemptEnded(attempt, Ending(reason, self.now, code)))

    @rule(node=st.sampled_from(NODES), cpus=st.integers(1, 4), share=st.floats(0, 1))
    def register(self, node: NodeName, cpus: int, share: float) -> None:
        mine = [r for r in self.current.values() if self.cluster.jobs[r.job].node == node]
        held = tuple(mine[: round(share * len(mine))])
        self.feed(ev.NodeRegistered(NodeInfo(node, Resources(cpus * 1000, 1024 * MIB)), held))

    @rule(node=st.sampled_from(NODES), unready=st.sampled_from(["", "no Docker"]))
    def heartbeat(self, node: NodeName, unready: str) -> None:
        self.feed(ev.HeartbeatReceived(NodeInfo(node, Resources(2000, 1024 * MIB), unready=unready)))

    @rule(node=st.sampled_from(NODES))
    def suspect(self, node: NodeName) -> None:
        self.feed(ev.NodeSuspected(node))

    @rule(seconds=st.sampled_from([1, 20, 40]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.feed(ev.TimePassed())

    @rule(seconds=st.sampled_from([-50, 10, 300]))
    def skip(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.feed(ev.TimeSkipped(seconds), ev.TimePassed())

    @rule()
    def restart(self) -> None:
        """Replace the scheduler: all it knows is what was written."""
        held = {ref.job: self.cluster.jobs[ref.job].node for ref in self.current.values()}
        known = dict(self.cluster.jobs)
        nodes = [ev.NodeRestored(n.info) for n in self.cluster.nodes.values()]
        self.cluster = Cluster(self.cluster.term + 1, 30, self.now + timedelta(seconds=10))
        told: list[ev.Event] = list(nodes)
        for name, state in self.state.items():
            if state in TERMINAL:
                continue
            job = known[name]
            number = self.numbers.get(name, 0)
            again = ev.JobSubmitted(
                name, job.owner, job.priority, job.resources, self.now, job.max_retries, job.charged, job.free, number
            )
            node = held.get(name)
            told.append(again if node is None else ev.JobRestored(again, state, self.current[name], node))
        self.feed(*told)

    @invariant()
    def memory_agrees_with_itself_and_with_the_store(self) -> None:
        self.cluster.check()
        live = {name: state for name, state in self.state.items() if state in LIVE}
        assert {name: job.state for name, job in self.cluster.jobs.items()} == live

    @invariant()
    def no_node_is_given_more_than_it_said_it_has_unless_it_shrank(self) -> None:
        for job in self.cluster.jobs.values():
            assert (job.state in ON_NODE) == (job.id in self.current)


Scheduling.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestScheduling = Scheduling.TestCase
