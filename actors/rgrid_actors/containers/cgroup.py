"""Figures of a container's cgroup, read from the kernel's files, in version 1 and 2. Gone with the container."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rgrid_actors.containers.port import Usage

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class CgroupFiles:
    """Where a container's figures are."""

    peak: Path
    oom: Path
    cpu: Path
    v2: bool


def find(proc_cgroup: str, root: Path = ROOT) -> CgroupFiles | None:
    """Return the files of the process whose `/proc/<pid>/cgroup` this is."""
    paths: dict[str, str] = {}
    for line in proc_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path.lstrip("/")
    if "memory" in paths:
        memory = root / "memory" / paths["memory"]
        cpu = root / "cpuacct" / paths.get("cpuacct", paths["memory"])
        return CgroupFiles(
            memory / "memory.max_usage_in_bytes", memory / "memory.oom_control", cpu / "cpuacct.usage", v2=False
        )
    if "" in paths:
        unified = root / paths[""]
        return CgroupFiles(unified / "memory.peak", unified / "memory.events", unified / "cpu.stat", v2=True)
    return None


def read(files: CgroupFiles) -> Usage | None:
    """Return the figures as they are now, or None once the cgroup is gone."""
    try:
        oom = int(_field(files.oom.read_text(), "oom_kill") or 0)
    except OSError:
        return None
    peak: int | None = None
    cpu: float | None = None
    with suppress(OSError, ValueError):
        peak = int(files.peak.read_text())  # memory.peak came with Linux 5.19
    with suppress(OSError, ValueError):
        text = files.cpu.read_text()
        cpu = int(_field(text, "usage_usec") or 0) / 1e6 if files.v2 else int(text) / 1e9
    return Usage(peak, cpu, oom)


def _field(text: str, name: str) -> str | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return value
    return None
