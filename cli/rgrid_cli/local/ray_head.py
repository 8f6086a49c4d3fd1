"""The Ray head of a local grid: on loopback, with a token, its own ports, its own folder.

Ray rewrites 127.0.0.1 into the machine's outward address, so the head is given another address of the loopback net.
Its state is kept in RocksDB: a head that died and came back finds its actors again.
"""

import hashlib
import secrets
import shutil
import sys
import time
from pathlib import Path

from rgrid.errors import Code, RGridError
from rgrid.home import write_private
from rgrid_cli.local.ports import free_ports
from rgrid_cli.local.processes import Child

ADDRESS = "127.0.0.2"
START_SECONDS = 60.0
STOP_SECONDS = 8.0
OBJECT_STORE_BYTES = 200 * 1024**2
_STARTED = b"Ray runtime started."
#: A unix socket's path may have 107 bytes, and Ray puts some 60 of its own behind the folder's.
_LONGEST_FOLDER = 40


class RayHead:
    """The head's process tree."""

    def __init__(self, home: Path, *, node: str, port: int, dashboard_port: int, cpus: int | None) -> None:
        """Say whose head it is and where it listens."""
        self._home, self._port, self._dashboard_port = home, port, dashboard_port
        self._node, self._cpus = node, cpus
        self.token_file = home / "ray_token"
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """Where drivers and nodes connect."""
        return f"{ADDRESS}:{self._port}"

    @property
    def dashboard_url(self) -> str:
        """Where people look."""
        return f"http://127.0.0.1:{self._dashboard_port}"

    @property
    def pid(self) -> int | None:
        """Process id of the head's first process."""
        return self._child.pid if self._child else None

    @property
    def log(self) -> Path:
        """What `ray start` had to say."""
        return self._home / "logs" / "ray.log"

    def alive(self) -> bool:
        """Say whether it lives."""
        return self._child is not None and self._child.alive()

    def environment(self) -> dict[str, str]:
        """Return what every process that speaks to this Ray must have set; Ray guesses otherwise, and differently."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def start(self) -> None:
        """Start it and return when it takes drivers."""
        if not self.token_file.is_file():
            write_private(self.token_file, secrets.token_hex(32))
        client, agent, agent_grpc, metrics = free_ports(4)
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        words += [f"--node-ip-address={ADDRESS}", f"--port={self._port}", f"--ray-client-server-port={client}"]
        words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard_port}"]
        words += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
        words += [f"--metrics-export-port={metrics}", f"--temp-dir={self.folder}"]
        words += [f"--node-name={self._node}", f"--labels=rgrid/node={self._node}"]
        words += ["--disable-usage-stats", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        if self._cpus is not None:
            words.append(f"--num-cpus={self._cpus}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = self.log.stat().st_size if self.log.exists() else 0
        self._child = Child("ray", words, env=self.environment() | self._tuning(), log=self.log)
        self._child.start()
        self._await_started(begin)

    def stop(self) -> None:
        """End it with everything it started. Never `ray stop`: that ends every Ray on the machine."""
        if self._child is not None:
            self._child.stop(STOP_SECONDS)
        self._child = None

    def forget(self) -> None:
        """Let the next head begin as a new cluster. Jobs are in Postgres; only Ray's own memory goes."""
        shutil.rmtree(self._home / "gcs", ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Where Ray keeps sessions and sockets."""
        own = self._home / "ray"
        if len(str(own)) <= _LONGEST_FOLDER:
            return own
        name = hashlib.sha256(str(self._home).encode()).hexdigest()[:12]
        return Path("/tmp") / f"rgrid-{name}"  # noqa: S108  # Ray makes it, and a socket's path must be short

    def _tuning(self) -> dict[str, str]:
        return {
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self._home / "gcs"),
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_metric_cardinality_level": "low",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "PYTHONUNBUFFERED": "1",
        }

    def _await_started(self, begin: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        assert self._child is not None
        while time.monotonic() < deadline:
            with self.log.open("rb") as log:
                log.seek(begin)
                if _STARTED in log.read():
                    return
            if not self._child.alive():
                raise RGridError(Code.GRID_START_FAILED, f"Ray did not start: {self._child.last_words()} ({self.log})")
            time.sleep(0.05)
        raise RGridError(Code.GRID_START_FAILED, f"Ray did not start in {START_SECONDS:.0f} s ({self.log})")
