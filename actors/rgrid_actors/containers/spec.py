"""From an order to the arguments a container is made with: pure, and the one place where the sandbox is written down.

Memory limit with swap equal to it, CPU share, pids limit, an unprivileged user, no capabilities, no new privileges, a
read-only root, a small `/tmp`, one writable folder, no network unless asked, bounded logs, no stdin, no Docker socket.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgrid.domain.ids import GridId, NodeName
from rgrid.domain.job import AttemptOrder, AttemptRef

WORKSPACE = "/workspace"
#: `/tmp` is memory and counts as such: at most a quarter of the job's, so that a full one leaves room to run.
TMP_SHARE = 4
TMP_MAX_BYTES = 1024**3
_MIB = 1024**2
#: The engine's JSON makes a line of 30 characters about four times as long.
LOG_OVERHEAD = 4

LABEL_GRID = "rgrid.grid"
LABEL_NODE = "rgrid.node"
LABEL_JOB = "rgrid.job"
LABEL_ATTEMPT = "rgrid.attempt"
LABEL_LEASE = "rgrid.lease"
LABEL_BUILDER = "rgrid.builder"
#: Where commands are looked for in an image that does not say.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container is made, and as whom it runs."""

    grid: GridId
    node: NodeName
    workspace: Path
    uid: int
    gid: int
    #: OCI runtime, or None for the engine's default.
    runtime: str | None = None
    #: The grid's own network, used only by jobs that ask for one.
    network: str = "bridge"
    #: CPUs the engine's machine has: it refuses a container that asks for more, and a node may be lent out twice over.
    cpus: int = 1024
    #: What the script needs, and where it is mounted; None where it needs nothing.
    environment: tuple[Path, str] | None = None
    #: Where the image looks for commands.
    path: str = PATH


def container_name(grid: GridId, ref: AttemptRef) -> str:
    """Return the one name an attempt's container can have: a second one is refused by the engine itself."""
    return f"rgrid-{grid}-{ref.job}-{ref.number}-{ref.lease}"


def labels(grid: GridId, node: NodeName, ref: AttemptRef) -> dict[str, str]:
    """Return the labels by which anybody finds a container again."""
    return {
        LABEL_GRID: grid,
        LABEL_NODE: node,
        LABEL_JOB: ref.job,
        LABEL_ATTEMPT: str(ref.number),
        LABEL_LEASE: ref.lease,
    }


def environment(order: AttemptOrder, place: Place) -> dict[str, str]:
    """Return the job's environment: what makes scripts behave, then the user's own, then what is true."""
    return {
        **_of_environment(place),
        "HOME": WORKSPACE,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        **order.spec.env,
        "RGRID_JOB_ID": order.ref.job,
        "RGRID_ATTEMPT": str(order.ref.number),
    }


def _of_environment(place: Place) -> dict[str, str]:
    """Return what makes an environment the one that is used."""
    if place.environment is None:
        return {}
    inside = place.environment[1]
    if inside.endswith("node_modules"):
        return {"NODE_PATH": inside, "PATH": f"{inside}/.bin:{place.path}"}
    return {"VIRTUAL_ENV": inside, "PATH": f"{inside}/bin:{place.path}"}


def _mounted(place: Place) -> dict[str, dict[str, str]]:
    if place.environment is None:
        return {}
    folder, inside = place.environment
    return {str(folder): {"bind": inside, "mode": "ro"}}


def host_config(order: AttemptOrder, place: Place) -> dict[str, Any]:
    """Return the arguments of docker-py's `create_host_config`."""
    spec = order.spec
    memory = spec.resources.memory_bytes
    tmp_bytes = min(memory // TMP_SHARE, TMP_MAX_BYTES)
    # An engine that rotates while it is followed skips what it should not: what we keep has room in the first file,
    # with the JSON that the engine puts around each line.
    log_mib = max(16, LOG_OVERHEAD * spec.log_bytes // _MIB)
    config: dict[str, Any] = {
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": min(spec.resources.cpu_millis, place.cpus * 1000) * 1_000_000,
        "pids_limit": spec.pids_limit,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={tmp_bytes}"},  # noqa: S108  # the container's own
        "binds": {str(place.workspace): {"bind": WORKSPACE, "mode": "rw"}, **_mounted(place)},
        "network_mode": place.network if spec.network else "none",
        # An init as first process: signals reach a script that has no handler, and orphans are reaped.
        "init": True,
        "log_config": {"Type": "json-file", "Config": {"max-size": f"{log_mib}m", "max-file": "2"}},
        # A crash leaves no core file in the workspace. Other limits stay the engine's: not every host may raise them.
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    }
    if place.runtime is not None:
        config["runtime"] = place.runtime
    return config


def create_arguments(order: AttemptOrder, place: Place, image_id: str) -> dict[str, Any]:
    """Return the arguments of docker-py's `create_container`, the host configuration aside."""
    return {
        "image": image_id,
        "name": container_name(place.grid, order.ref),
        "command": list(order.spec.command),
        # An image's own entry point must not come between the runtime and the script.
        "entrypoint": [],
        "user": f"{place.uid}:{place.gid}",
        "working_dir": WORKSPACE,
        "environment": environment(order, place),
        "labels": labels(place.grid, place.node, order.ref),
        "hostname": order.ref.job,
        "stdin_open": False,
        "tty": False,
    }
