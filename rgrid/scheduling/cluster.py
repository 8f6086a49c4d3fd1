"""What the scheduler remembers: live jobs, nodes, and who waits in which order. Values and lookups; it decides nothing.

Only live jobs are here. A job that ends is forgotten at once, so that nothing grows with history.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from rgrid.domain.ids import JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptRef, NodeInfo
from rgrid.domain.lifecycle import ON_NODE, State
from rgrid.domain.resources import NOTHING, Resources
from rgrid.scheduling.commands import NodeState


@dataclass(slots=True)
class Job:
    """A live job."""

    id: JobId
    owner: Owner
    priority: int
    resources: Resources
    queued_at: datetime
    max_retries: int
    charged: int
    free: int
    state: State
    #: How many of `free` were faults of RGrid's own. Not stored: a new scheduler gives the benefit of the doubt.
    internal: int = 0
    #: Number of the current attempt, or of the last one while the job waits.
    attempt: int = 0
    lease: Lease | None = None
    node: NodeName | None = None
    #: A cancel that was asked for while the job is on a node; `now` once it skips the grace.
    stop_now: bool = False

    @property
    def ref(self) -> AttemptRef:
        """Name the current attempt; only a job on a node has one."""
        assert self.lease is not None, f"{self.id} has no attempt"
        return AttemptRef(self.id, self.attempt, self.lease)


@dataclass(slots=True)
class Node:
    """A machine, as far as its executor has told."""

    info: NodeInfo
    state: NodeState
    last_heard: datetime
    #: False for a node on record that has not reported to this scheduler yet.
    reported: bool = True
    jobs: set[JobId] = field(default_factory=set)
    used: Resources = NOTHING

    @property
    def room(self) -> Resources:
        """What is left to give."""
        return self.info.capacity - self.used


@dataclass(slots=True)
class Cluster:
    """Everything the scheduler knows."""

    #: This scheduler's term; leases begin with it, so that no two schedulers ever make the same one.
    term: int
    #: Silence after which a node is lost.
    lost_after_seconds: float
    #: Until then a node on record that has not reported since this scheduler began is not lost.
    rejoin_until: datetime
    jobs: dict[JobId, Job] = field(default_factory=dict)
    nodes: dict[NodeName, Node] = field(default_factory=dict)
    leases: int = 0
    #: Waiting jobs, first to go first: higher priority, then earlier submission (an id sorts by its time).
    _queue: list[tuple[int, JobId]] = field(default_factory=list)

    def waiting(self) -> Iterator[Job]:
        """Give the queued jobs in the order in which they are owed a node."""
        return (self.jobs[job] for _, job in list(self._queue))

    def enqueue(self, job: Job) -> None:
        """Put a job where it belongs in the queue; one that was tried keeps its place."""
        assert job.state is State.QUEUED, job
        insort(self._queue, (-job.priority, job.id))

    def dequeue(self, job: Job) -> None:
        """Take a job out of the queue."""
        place = bisect_left(self._queue, (-job.priority, job.id))
        assert self._queue[place][1] == job.id, job
        del self._queue[place]

    def occupy(self, job: Job, node: NodeName) -> None:
        """Charge a job to a node; a node that is not known yet gets charged when it registers."""
        job.node = node
        if (host := self.nodes.get(node)) is not None:
            host.jobs.add(job.id)
            host.used += job.resources

    def vacate(self, job: Job) -> None:
        """Give a node back what the job held."""
        host = self.nodes.get(job.node) if job.node is not None else None
        if host is not None and job.id in host.jobs:
            host.jobs.remove(job.id)
            host.used -= job.resources
        job.node, job.lease = None, None

    def new_lease(self) -> Lease:
        """Make a token that was never used and never will be."""
        self.leases += 1
        return Lease(f"{self.term}.{self.leases}")

    def current(self, ref: AttemptRef) -> Job | None:
        """Return the job if `ref` is its current attempt; anything else is stale."""
        job = self.jobs.get(ref.job)
        if job is None or job.state not in ON_NODE or job.attempt != ref.number or job.lease != ref.lease:
            return None
        return job

    def check(self) -> None:
        """Raise `AssertionError` when what is remembered contradicts itself. For tests; costs as much as there is."""
        queued = [job.id for job in self.jobs.values() if job.state is State.QUEUED]
        assert sorted(job for _, job in self._queue) == sorted(queued), "the queue holds exactly the queued jobs"
        assert self._queue == sorted(self._queue), "the queue is in order"
        leases = [job.lease for job in self.jobs.values() if job.lease is not None]
        assert len(leases) == len(set(leases)), "no lease is held twice"
        for job in self.jobs.values():
            assert (job.state in ON_NODE) == (job.lease is not None) == (job.node is not None), job
        for name, node in self.nodes.items():
            assert node.jobs == {j.id for j in self.jobs.values() if j.node == name}, name
            used = sum((self.jobs[j].resources for j in node.jobs), NOTHING)
            assert node.used == used, f"{name} is charged for what it holds"
