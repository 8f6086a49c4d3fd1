"""Which waiting job goes to which node. First come, first served within a priority.

A job that no ready node has room for *now* holds back those behind it: small jobs that slipped past a large one for
ever would starve it. A job that no ready node could hold even when empty holds nobody back; it waits for a node that
can, and says so.
"""

from collections.abc import Iterator

from rgrid.scheduling.cluster import Cluster, Job, Node


def choose(job: Job, nodes: list[Node]) -> Node | None:
    """Return the node to give a job to, or None when none has room.

    The fullest one that fits: it keeps large gaps whole for large jobs. The name decides between equals, so that the
    same events always lead to the same choice.
    """
    fitting = [node for node in nodes if job.resources.fits(node.room)]
    return min(fitting, key=lambda n: (n.room.cpu_millis, n.room.memory_bytes, n.info.name), default=None)


def placements(cluster: Cluster) -> Iterator[tuple[Job, Node]]:
    """Give who goes where now. The caller charges the node before it asks for the next pair."""
    nodes = [node for node in cluster.nodes.values() if node.state == "ready"]
    if not nodes:
        return
    for job in cluster.waiting():
        if (node := choose(job, nodes)) is not None:
            yield job, node
        elif any(job.resources.fits(n.info.capacity) for n in nodes):
            return
