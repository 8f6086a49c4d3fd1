"""`python -m rgrid_actors.boot`: see that a Ray cluster has its scheduler and that a node is ready, and say so.

Run by the supervisor of `rgrid up` whenever the head came up. Run again it changes nothing. Prints one JSON line.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
import time
from typing import Any

import ray
from ray.exceptions import RayError

from rgrid import __version__
from rgrid.access import database_url
from rgrid.domain.ids import GridId
from rgrid.errors import Code, RGridError
from rgrid.settings import settings
from rgrid.store.engine import make_engine
from rgrid.store.grid import grid_id
from rgrid.store.schema import check
from rgrid_actors.config import NAMESPACE, GridConfig
from rgrid_actors.remote import make_scheduler

READY_SECONDS = 60.0
_LET_IN = (
    "Where the cluster has a token, set RAY_AUTH_LET_IN_PATH to the file it is in, then type `rgrid up --ray-address "
    "ADDRESS` again."
)


def connect(address: str) -> None:
    """Join a Ray cluster as a driver. Ray itself waits for minutes where nobody listens, so the port is tried first."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except (OSError, ValueError) as error:
        raise RGridError(Code.RAY_UNREACHABLE, f"nobody answers at Ray's address {address}: {error}") from error
    # Ray's own guess differs between ways to connect, and with the wrong one its processes crash without a word.
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_LET_IN", "RAY_AUTH_LET_IN_PATH"))
    os.environ.setdefault("RAY_AUTH_MODE", "token" if has_token else "disabled")
    os.environ["RAY_NUM_REDIS_GET_RETRIES"] = "1"
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    except RuntimeError as error:
        if "ersion mismatch" in str(error):
            line = " ".join(str(error).split())
            raise RGridError(Code.RAY_VERSION, f"Ray at {address} does not match: {line}") from error
        raise RGridError(Code.RAY_UNREACHABLE, f"Ray at {address} does not let us in: {error}", hint=_LET_IN) from error
    except (ConnectionError, RayError) as error:
        line = " ".join(str(error).split())
        raise RGridError(Code.RAY_UNREACHABLE, f"Ray at {address} does not let us in: {line}", hint=_LET_IN) from error


def make_config() -> GridConfig:
    """Put together what the actors are told."""
    chosen, url = settings(), database_url()
    engine = make_engine(url)
    check(engine)
    return GridConfig(
        grid=GridId(grid_id(engine)),
        version=__version__,
        home=chosen.home,
        database_url=url,
        node_lost_after=chosen.node_lost_after,
        rejoin_grace=chosen.rejoin_grace,
        poll_interval=chosen.poll_interval,
        docker_host=chosen.docker_host or os.environ.get("DOCKER_HOST"),
        docker_runtime=chosen.docker_runtime,
        log_level=chosen.log_level,
        build_memory=chosen.build_memory,
        build_disk=chosen.build_disk,
        builder_images=chosen.builder_images,
        ca_bundle=chosen.ca_bundle,
        uv_config=chosen.uv_config,
        keep_jobs=chosen.keep_jobs,
        cache_high=chosen.cache_high,
        cache_low=chosen.cache_low,
        min_free=chosen.min_free,
    )


async def await_ready(scheduler: Any) -> dict[str, Any]:
    """Return the scheduler's word once it answers and knows a node that reported to it."""
    deadline = time.monotonic() + READY_SECONDS
    last: object = None
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout(5):
                last = status = await scheduler.status.remote()
            if set(status["nodes"].values()) & {"ready", "unready"}:
                return dict(status)
        except (RayError, TimeoutError) as error:  # it starts, or starts again
            last = error
        await asyncio.sleep(0.05)
    raise RGridError(Code.GRID_START_FAILED, f"no node reported to the scheduler in {READY_SECONDS:.0f} s: {last}")


def main() -> int:
    """Boot a grid's actors."""
    parser = argparse.ArgumentParser(prog="rgrid_actors.boot")
    parser.add_argument("--ray-address", required=True)
    words = parser.parse_args()
    try:
        config = make_config()
        connect(words.ray_address)
        status = asyncio.run(await_ready(make_scheduler(config)))
    except RGridError as error:
        sys.stderr.write(f"error[{error.code}]: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(status) + "\n")
    return 0


if __name__ == "__main__":
    # Nothing is left to be said: Ray's own farewell takes a second.
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
