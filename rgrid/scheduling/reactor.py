"""The scheduler's mind: `react(cluster, event, now)` changes the cluster and returns what is to be done.

One function per event, named for it. Nothing here reads a clock, draws a number or talks to anyone, so the same code
runs in production, under hypothesis and in a simulator.

Stale word is the rule, not the exception: executors report until they are acknowledged, nodes return from the dead,
schedulers are replaced. Every report names its attempt and lease, and what is not current changes nothing, except that
an executor holding an attempt that is not its any more is told to discard it.
"""

from datetime import datetime, timedelta
from typing import assert_never

from rgrid.domain.job import Ending, NodeInfo
from rgrid.domain.lifecycle import ON_NODE, TERMINAL, State, next_state
from rgrid.domain.lifecycle import Event as Step
from rgrid.domain.reasons import RETRY_OF, EndReason, Retry, end_state
from rgrid.domain.retry import is_retried
from rgrid.scheduling import commands as cmd
from rgrid.scheduling import events as ev
from rgrid.scheduling.cluster import Cluster, Job, Node
from rgrid.scheduling.placement import placements

Commands = list[cmd.Command]


def react(cluster: Cluster, event: ev.Event, now: datetime) -> Commands:  # noqa: C901  # one arm per event
    """Take in one event and return the commands it leads to, in the order they are to be carried out."""
    match event:
        case ev.JobSubmitted():
            done = on_job_submitted(cluster, event)
        case ev.JobRestored():
            done = on_job_restored(cluster, event)
        case ev.NodeRestored():
            done = on_node_restored(cluster, event, now)
        case ev.CancelRequested():
            done = on_cancel_requested(cluster, event)
        case ev.NodeRegistered():
            done = on_node_registered(cluster, event, now)
        case ev.HeartbeatReceived():
            done = on_heartbeat_received(cluster, event, now)
        case ev.NodeSuspected():
            done = on_node_suspected(cluster, event)
        case ev.AttemptProgressed():
            done = on_attempt_progressed(cluster, event)
        case ev.AttemptStarted():
            done = on_attempt_started(cluster, event)
        case ev.AttemptEnded():
            done = on_attempt_ended(cluster, event)
        case ev.TimePassed():
            done = on_time_passed(cluster, now)
        case ev.TimeSkipped():
            done = on_time_skipped(cluster, event)
        case _:
            assert_never(event)
    return done


def place(cluster: Cluster) -> Commands:
    """Give waiting jobs to nodes with room. Called once per batch of events, after the last of them."""
    done: Commands = []
    for job, node in placements(cluster):
        cluster.dequeue(job)
        job.state = next_state(job.state, Step.ASSIGNED)
        job.attempt += 1
        job.lease = cluster.new_lease()
        cluster.occupy(job, node.info.name)
        done += [cmd.AssignAttempt(job.ref, node.info.name), cmd.StartAttempt(node.info.name, job.ref)]
    return done


# -- jobs -------------------------------------------------------------------------------------------------------------


def on_job_submitted(cluster: Cluster, event: ev.JobSubmitted) -> Commands:
    """Queue a job; one that is known already was told of twice, by the notification and by the poll."""
    if event.job not in cluster.jobs:
        job = _remember(cluster, event, State.QUEUED)
        cluster.enqueue(job)
    return []


def on_job_restored(cluster: Cluster, event: ev.JobRestored) -> Commands:
    """Take up a job that is on a node, with the attempt and lease it has."""
    job = _remember(cluster, event.submitted, event.state)
    job.attempt, job.lease = event.ref.number, event.ref.lease
    cluster.occupy(job, event.node)
    return []


def on_cancel_requested(cluster: Cluster, event: ev.CancelRequested) -> Commands:
    """End a waiting job at once; tell the node of one that is there. Asked again, only `now` is news."""
    job = cluster.jobs.get(event.job)
    if job is None or (job.state is State.STOPPING and job.stop_now >= event.now):
        return []
    job.state = next_state(job.state, Step.CANCEL_REQUESTED)
    if job.state in TERMINAL:
        cluster.dequeue(job)
        del cluster.jobs[job.id]
        return [cmd.EndJob(job.id, job.state, EndReason.CANCELLED, "cancelled before it started")]
    job.stop_now = event.now
    assert job.node is not None
    return [cmd.MarkStopping(job.ref, event.now), cmd.StopAttempt(job.node, job.ref, event.now)]


# -- attempts ---------------------------------------------------------------------------------------------------------


def on_attempt_progressed(cluster: Cluster, event: ev.AttemptProgressed) -> Commands:
    """Note what the current attempt does."""
    if cluster.current(event.ref) is None:
        return []
    return [cmd.RecordProgress(event.ref, event.phase, event.at, event.detail)]


def on_attempt_started(cluster: Cluster, event: ev.AttemptStarted) -> Commands:
    """Note that the current attempt runs. It may say so again after either side was restarted."""
    job = cluster.current(event.ref)
    if job is None or job.state is State.RUNNING:
        return []
    job.state = next_state(job.state, Step.STARTED)
    return [cmd.RecordStart(event.ref, job.state, event.at)]


def on_attempt_ended(cluster: Cluster, event: ev.AttemptEnded) -> Commands:
    """End the current attempt, and its job with it unless it is tried again."""
    job = cluster.current(event.ref)
    return [] if job is None else _end(cluster, job, event.ending)


def _end(cluster: Cluster, job: Job, ending: Ending) -> Commands:
    ref, asked_to_stop = job.ref, job.state is State.STOPPING
    lost = RETRY_OF[ending.reason] is Retry.FREE
    again = not asked_to_stop and is_retried(
        ending.reason,
        exit_code=ending.exit_code,
        charged=job.charged,
        free=job.free,
        internal=job.internal,
        max_retries=job.max_retries,
    )
    cluster.vacate(job)
    if again:
        job.state = next_state(job.state, Step.REQUEUED)
        job.free += lost
        job.internal += ending.reason is EndReason.INTERNAL
        job.charged += not lost
        cluster.enqueue(job)
        return [cmd.EndAttempt(ref, ending, job.state, RETRY_OF[ending.reason])]
    step = {
        State.SUCCEEDED: Step.SUCCEEDED,
        State.FAILED: Step.FAILED,
        State.CANCELLED: Step.CANCELLED,
    }[end_state(ending.reason, ending.exit_code)]
    if asked_to_stop and lost:
        step = Step.CANCELLED  # it was to stop, and it is gone: nobody asked for another attempt
    job.state = next_state(job.state, step)
    del cluster.jobs[job.id]
    return [cmd.EndAttempt(ref, ending, job.state)]


# -- nodes ------------------------------------------------------------------------------------------------------------


def on_node_restored(cluster: Cluster, event: ev.NodeRestored, now: datetime) -> Commands:
    """Remember a node on record. It is suspect until its executor reports."""
    node = _meet(cluster, event.info, now)
    node.state, node.reported = "suspect", False
    return []


def on_node_registered(cluster: Cluster, event: ev.NodeRegistered, now: datetime) -> Commands:
    """Compare what an executor holds with what it should hold, and send it the differences."""
    node = _meet(cluster, event.info, now)
    name = event.info.name
    done = _set_state(node, _state_of(event.info), event.info, always=True)
    held = set(event.held)
    for ref in event.held:
        job = cluster.current(ref)
        if job is None or job.node != name:
            done.append(cmd.DiscardAttempt(name, ref))
        elif job.state is State.STOPPING:
            done.append(cmd.StopAttempt(name, ref, job.stop_now))
    for job_id in sorted(node.jobs):
        job = cluster.jobs[job_id]
        if job.ref in held:
            continue
        if job.state is State.ASSIGNED:
            done.append(cmd.StartAttempt(name, job.ref))  # the order was lost with its sender or its receiver
        else:
            done += _end(cluster, job, _lost(EndReason.ENGINE_LOST, now, "its node no longer has the container"))
    return done


def on_heartbeat_received(cluster: Cluster, event: ev.HeartbeatReceived, now: datetime) -> Commands:
    """Hear that a node is alive. One that was given up must register first: its attempts are not its any more."""
    node = cluster.nodes.get(event.info.name)
    if node is None or node.state == "lost":
        return []
    node.last_heard, node.reported = now, True
    return _set_state(node, _state_of(event.info), event.info)


def on_node_suspected(cluster: Cluster, event: ev.NodeSuspected) -> Commands:
    """Give a node no more work while Ray thinks it dead."""
    node = cluster.nodes.get(event.node)
    if node is None or node.state == "lost":
        return []
    return _set_state(node, "suspect", node.info)


def on_time_passed(cluster: Cluster, now: datetime) -> Commands:
    """Give up nodes that were silent too long; their attempts are tried elsewhere."""
    done: Commands = []
    limit = timedelta(seconds=cluster.lost_after_seconds)
    for node in cluster.nodes.values():
        if node.state == "lost" or now - node.last_heard <= limit:
            continue
        if not node.reported and now < cluster.rejoin_until:
            continue  # it may not know yet that there is a new scheduler
        done += _set_state(node, "lost", node.info)
        silent = (now - node.last_heard).total_seconds()
        why = f"node {node.info.name} was silent for {silent:.0f} s"
        for job_id in sorted(node.jobs):
            done += _end(cluster, cluster.jobs[job_id], _lost(EndReason.NODE_LOST, now, why))
    return done


def on_time_skipped(cluster: Cluster, event: ev.TimeSkipped) -> Commands:
    """Leave out of every node's silence the time in which nobody listened."""
    skipped = timedelta(seconds=event.seconds)
    cluster.rejoin_until += skipped
    for node in cluster.nodes.values():
        node.last_heard += skipped
    return []


# -- small parts ------------------------------------------------------------------------------------------------------


def _remember(cluster: Cluster, event: ev.JobSubmitted, state: State) -> Job:
    assert state is State.QUEUED or state in ON_NODE, state
    job = Job(
        id=event.job,
        owner=event.owner,
        priority=event.priority,
        resources=event.resources,
        queued_at=event.queued_at,
        max_retries=event.max_retries,
        charged=event.charged,
        free=event.free,
        state=state,
        attempt=event.attempt,
    )
    cluster.jobs[job.id] = job
    return job


def _meet(cluster: Cluster, info: NodeInfo, now: datetime) -> Node:
    node = cluster.nodes.get(info.name)
    if node is None:
        node = cluster.nodes[info.name] = Node(info, "ready", now)
        for job in cluster.jobs.values():  # jobs restored before their node
            if job.node == info.name:
                cluster.occupy(job, info.name)
    node.last_heard, node.reported = now, True
    return node


def _state_of(info: NodeInfo) -> cmd.NodeState:
    return "unready" if info.unready else "ready"


def _set_state(node: Node, state: cmd.NodeState, info: NodeInfo, *, always: bool = False) -> Commands:
    if not always and node.state == state and node.info == info:
        return []
    node.state, node.info = state, info
    return [cmd.RecordNode(info, state)]


def _lost(reason: EndReason, at: datetime, why: str) -> Ending:
    return Ending(reason=reason, at=at, message=why, proof={"witness": "scheduler"})
