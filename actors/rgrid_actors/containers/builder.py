"""Builders: containers that make environments. They have network and limits; nothing of a job's is in them.

One is watched from a thread until it has ended, runs out of time, memory or disk, or nobody wants it any more; then
it is gone, whatever became of it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgrid.domain.resources import format_memory

LOOK_SECONDS = 0.1
DISK_SECONDS = 1.0
#: As much of what a builder said is kept.
TAIL_LINES = 200
PIDS = 1024


@dataclass(frozen=True, slots=True)
class BuilderOrder:
    """What a builder is made of."""

    name: str
    image: str
    script: str
    environment: Mapping[str, str]
    #: Host folder or file to its place inside; only those in `writable` may be changed.
    mounts: Mapping[Path, str]
    writable: frozenset[Path]
    user: str
    network: str
    memory_bytes: int
    nano_cpus: int
    #: Least share of a busy CPU where what it makes is not waited for.
    background: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """How a builder ended."""

    exit_code: int
    said: str
    #: Why it was ended by us, or by the kernel: empty when it ended by itself.
    stopped: str = ""


@dataclass(slots=True)
class Bounds:
    """What a builder may not pass."""

    given_up: Callable[[], bool]
    #: On `time.monotonic()`.
    deadline: float
    disk_bytes: int
    disk_used: Callable[[], int]
    _next_disk: float = 0.0

    def passed(self) -> str:
        """Return why it has to end now, or nothing."""
        now = time.monotonic()
        if self.given_up():
            return "nobody wants it any more"
        if now > self.deadline:
            return "it took longer than the time that preparing a job may take"
        if now >= self._next_disk:
            self._next_disk = now + DISK_SECONDS
            return self.disk_passed()
        return ""

    def disk_passed(self) -> str:
        """Return that it took too much disk, or nothing."""
        over = self.disk_used() > self.disk_bytes
        return f"it took more than {format_memory(self.disk_bytes)} of disk" if over else ""


def create_arguments(order: BuilderOrder, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of docker-py's `create_container`, the host configuration aside."""
    return {
        "image": order.image,
        "name": order.name,
        "command": ["-c", order.script],
        "entrypoint": ["/bin/sh"],
        "user": order.user,
        "working_dir": "/",
        "environment": dict(order.environment),
        "labels": dict(labels),
    }


def host_config(order: BuilderOrder) -> dict[str, Any]:
    """Return the arguments of docker-py's `create_host_config`."""
    return {
        "mem_limit": order.memory_bytes,
        "memswap_limit": order.memory_bytes,
        "nano_cpus": order.nano_cpus,
        "cpu_shares": 2 if order.background else 1024,
        "pids_limit": PIDS,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=268435456"},  # noqa: S108  # the container's own
        "binds": {
            str(host): {"bind": inside, "mode": "rw" if host in order.writable else "ro"}
            for host, inside in order.mounts.items()
        },
        "network_mode": order.network,
        "init": True,
        "log_config": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
    }


def watch(api: Any, container: str, order: BuilderOrder, bounds: Bounds, tell: Callable[[str], None]) -> Built:
    """Return how a started builder ended, ending it where it must be; `tell` hears its last line."""
    stopped, last = "", ""
    while (state := api.inspect_container(container)["State"])["Running"]:
        if not stopped and (stopped := bounds.passed()):
            with suppress(Exception):  # it may have ended by itself at this moment
                api.kill(container)
        line = _last_line(api, container)
        if line and line != last:
            last = line
            tell(line)
        time.sleep(LOOK_SECONDS)
    said = api.logs(container, stdout=True, stderr=True, tail=TAIL_LINES).decode("utf-8", "replace")
    if not stopped and state["OOMKilled"]:
        stopped = f"it needed more than {format_memory(order.memory_bytes)} of memory"
    # One that was quicker than our looks is held to its limit all the same.
    return Built(state["ExitCode"], said, stopped or bounds.disk_passed())


def _last_line(api: Any, container: str) -> str:
    lines = api.logs(container, stdout=False, stderr=True, tail=1).decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
