"""Where plain classes become actors: name, namespace, restarts and concurrency of both, side by side.

Both are async actors with one concurrency group: in Ray every further group would have an event loop of its own, and
nothing could be shared between them. Their methods are idempotent, because Ray may carry a call out twice.
"""

import logging
import socket
from pathlib import Path
from typing import Any

import ray
from uv import find_uv_bin

from rgrid.domain.ids import NodeName
from rgrid.domain.resources import Resources
from rgrid.store.blobs import PostgresBlobs
from rgrid.store.channels import WORK
from rgrid.store.engine import make_engine
from rgrid.store.ledger import PostgresLedger
from rgrid.store.listen import Listener
from rgrid.store.locks import PostgresLocks
from rgrid.store.logs import PostgresLogs
from rgrid.store.schema import check
from rgrid_actors.config import NAMESPACE, NODE_LABEL, SCHEDULER, GridConfig
from rgrid_actors.containers.docker import DockerContainers
from rgrid_actors.environments.site import Site
from rgrid_actors.executor import Executor, node_info
from rgrid_actors.fleet import RayFleet, RaySchedulerLink
from rgrid_actors.scheduler import Scheduler
from rgrid_actors.spool import Spools

#: Ray's default of 1000 is reached by waiting calls, after which every other call hangs.
CONCURRENCY = 100_000


class SchedulerActor(Scheduler):
    """`Scheduler`, put together with its real parts in the process Ray gave it."""

    async def __init__(self, config: GridConfig) -> None:  # type: ignore[misc]  # Ray awaits it, on every restart too
        """Put it together and begin."""
        _log_to_stderr(config)
        engine = make_engine(config.database_url, pool_size=4, application_name="rgrid scheduler")
        await self._insist(lambda: check(engine))  # an actor that fails here is not restarted, and Postgres comes back
        super().__init__(config, PostgresLedger(engine), RayFleet(config))
        await self.start()
        self._listener = Listener(
            config.database_url,
            [WORK],
            on_notify=lambda _channel, payload: self.told(payload),
            on_reconnect=lambda: self.told(""),
        )
        self._listener.start()


class ExecutorActor(Executor):
    """`Executor`, put together with its real parts in the process Ray gave it."""

    async def __init__(self, config: GridConfig, name: NodeName, capacity: Resources | None) -> None:  # type: ignore[misc]
        """Put it together and begin."""
        _log_to_stderr(config)
        engine = make_engine(config.database_url, pool_size=16, application_name=f"rgrid executor {name}")
        info = node_info(name, socket.gethostname())
        if capacity is not None:
            info = type(info)(name, capacity, info.address, info.pid)
        super().__init__(
            info,
            DockerContainers(config.grid, name, host=config.docker_host, runtime=config.docker_runtime),
            PostgresBlobs(engine),
            PostgresLogs(engine),
            PostgresLocks(engine),
            RaySchedulerLink(),
            Spools(config.home / "nodes" / name / "attempts"),
            Site(
                Path(find_uv_bin()),
                build_memory_bytes=config.build_memory,
                build_disk_bytes=config.build_disk,
                builder_images=config.builder_images,
                cache_high_bytes=config.cache_high,
                cache_low_bytes=config.cache_low,
                min_free_bytes=config.min_free,
                ca_bundle=config.ca_bundle,
                uv_config=config.uv_config,
            ),
        )
        await self.start()


def make_scheduler(config: GridConfig) -> Any:
    """Return the grid's scheduler, making it where there is none."""
    actor = ray.remote(SchedulerActor).options(
        name=SCHEDULER,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,  # reports are repeated by who makes them
        max_concurrency=CONCURRENCY,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
    )
    return actor.remote(config)


def make_executor(config: GridConfig, name: NodeName, node: dict[str, Any]) -> Any:
    """Return the executor of a node, making it where there is none. It waits for its node and comes back with it."""
    labelled = node["Labels"].get(NODE_LABEL) == name
    selector = {NODE_LABEL: name} if labelled else {"ray.io/node-id": node["NodeID"]}
    cpus = node["Resources"].get("CPU")
    capacity = None
    if cpus is not None:
        capacity = Resources(int(cpus * 1000), int(node["Resources"].get("rgrid_memory", 0)) or _memory_of(node))
    actor = ray.remote(ExecutorActor).options(
        name=f"executor:{name}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,  # orders are sent again when the executor registers
        max_concurrency=CONCURRENCY,
        num_cpus=0,
        label_selector=selector,
    )
    return actor.remote(config, name, capacity)


def _memory_of(node: dict[str, Any]) -> int:
    return int(node["Resources"]["memory"])


def _log_to_stderr(config: GridConfig) -> None:
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
