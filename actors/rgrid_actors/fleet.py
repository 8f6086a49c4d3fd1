"""Ray, as scheduler and executors need it: who lives, handles to actors, and calls that may get lost.

The only module besides `remote` and `boot` that knows Ray.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import ray

from rgrid.domain.ids import NodeName
from rgrid.domain.job import AttemptOrder, AttemptRef, NodeInfo
from rgrid.scheduling.events import Report
from rgrid_actors.config import NAMESPACE, NODE_LABEL, SCHEDULER, GridConfig

log = logging.getLogger(__name__)

#: A call that takes longer is given up and, where it matters, made again. Ray itself never gives up (RAY.md 0.4).
CALL_SECONDS = 30.0
#: A heartbeat that takes longer is not worth waiting for: the next one is due.
HEARTBEAT_SECONDS = 5.0


class RayFleet:
    """`Fleet` on Ray: one detached executor per live node, pinned to it."""

    def __init__(self, config: GridConfig) -> None:
        """Keep the configuration that executors are made with."""
        self._config = config
        self._executors: dict[NodeName, Any] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._undelivered: set[NodeName] = set()

    async def watch(self, silent: frozenset[NodeName]) -> list[NodeName]:
        """Make executors where there are none; return the nodes Ray calls dead."""
        alive, dead = await asyncio.to_thread(_ray_nodes)
        for name, node in alive.items():
            if name not in self._executors or name in silent:
                self._executors[name] = await asyncio.to_thread(self._executor, name, node)
        return [name for name in dead if name not in alive]

    def start(self, node: NodeName, orders: Sequence[AttemptOrder]) -> None:
        """Send orders to run attempts."""
        self._send(node, "start_attempts", list(orders))

    def stop(self, node: NodeName, ref: AttemptRef, *, now: bool) -> None:
        """Send an order to stop an attempt."""
        self._send(node, "stop_attempt", ref, now=now)

    def discard(self, node: NodeName, ref: AttemptRef) -> None:
        """Send an order to forget an attempt."""
        self._send(node, "discard_attempt", ref)

    def undelivered(self) -> frozenset[NodeName]:
        """Return the nodes that an order may not have reached since this was last asked."""
        found, self._undelivered = frozenset(self._undelivered), set()
        return found

    def _executor(self, name: NodeName, node: dict[str, Any]) -> Any:
        from rgrid_actors.remote import make_executor

        return make_executor(self._config, name, node)

    def _send(self, node: NodeName, method: str, *args: object, **words: object) -> None:
        task = asyncio.create_task(self._call(node, method, *args, **words))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, node: NodeName, method: str, *args: object, **words: object) -> None:
        handle = self._executors.get(node)
        try:
            if handle is None:
                raise LookupError("no executor is known there yet")  # noqa: TRY301  # one way to miss a node
            async with asyncio.timeout(CALL_SECONDS):
                await getattr(handle, method).remote(*args, **words)
        except Exception as error:  # noqa: BLE001  # the executor is asked to register, and is sent it again
            log.warning("%s did not reach node %s: %s", method, node, error)
            self._undelivered.add(node)


class RaySchedulerLink:
    """`SchedulerLink` on Ray; finds the scheduler anew when a call failed."""

    def __init__(self) -> None:
        """Find nothing yet."""
        self._scheduler: Any = None

    async def register(self, info: NodeInfo, incarnation: str, held: Sequence[AttemptRef]) -> None:
        """Tell the scheduler what this node holds."""
        await self._call("register", info, incarnation, list(held))

    async def heartbeat(self, info: NodeInfo, incarnation: str) -> bool:
        """Tell the scheduler that this node lives."""
        return bool(await self._call("heartbeat", info, incarnation, seconds=HEARTBEAT_SECONDS))

    async def report(self, reports: Sequence[Report]) -> None:
        """Report, and wait for the acknowledgement."""
        await self._call("report", list(reports))

    async def _call(self, method: str, *args: object, seconds: float = CALL_SECONDS) -> object:
        try:
            if self._scheduler is None:
                self._scheduler = await asyncio.to_thread(ray.get_actor, SCHEDULER, NAMESPACE)
            async with asyncio.timeout(seconds):
                return await getattr(self._scheduler, method).remote(*args)
        except BaseException:
            self._scheduler = None
            raise


def _ray_nodes() -> tuple[dict[NodeName, dict[str, Any]], set[NodeName]]:
    alive: dict[NodeName, dict[str, Any]] = {}
    dead: set[NodeName] = set()
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        name = NodeName(node["Labels"].get(NODE_LABEL) or node["NodeName"])
        if node["Alive"]:
            alive[name] = node
        else:
            dead.add(name)
    return alive, dead
