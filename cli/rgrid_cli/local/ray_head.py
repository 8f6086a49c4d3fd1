"""The Ray head of a local grid: on loopback, with a token, its own ports, its own folder.

Ray on Linux rewrites 127.0.0.1 into the machine's outward address, and with any address but 127.0.0.1 its servers
listen on all interfaces. So the head is told that this is no machine for clusters (`_ONE_MACHINE`), which leaves the
address alone; and drivers, who would rewrite it again, are given the same address in a form Ray does not recognise.

Its state is kept in RocksDB: a head that died and came back finds its actors again.
"""

import hashlib
import os
import secrets
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from rgrid.errors import Code, RGridError
from rgrid.home import write_private
from rgrid_cli.local.ports import free_ports
from rgrid_cli.local.processes import Child, last_words

_ADDRESS = "127.0.0.1"
_ADDRESS_FOR_DRIVERS = f"[::ffff:{_ADDRESS}]"
_ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
START_SECONDS = 60.0
STOP_SECONDS = 8.0
OBJECT_STORE_BYTES = 200 * 1024**2
_KEPT_SESSIONS = 3
_STARTED = b"Ray runtime started."
#: A unix socket's path may have 107 bytes, and Ray puts some 60 of its own behind the folder's.
_LONGEST_FOLDER = 36


class RayHead:
    """The head's process tree."""

    def __init__(self, home: Path, *, node: str, port: int, dashboard_port: int, cpus: int | None) -> None:
        """Say whose head it is and where it listens."""
        self._home, self._port, self._dashboard_port = home, port, dashboard_port
        self._node, self._cpus = node, cpus
        self.token_file = home / "ray_token"
        self._child: Child | None = None
        self._begin = 0

    @property
    def address(self) -> str:
        """Where drivers and nodes connect."""
        return f"{_ADDRESS_FOR_DRIVERS}:{self._port}"

    @property
    def dashboard_url(self) -> str:
        """Where people look."""
        return f"http://{_ADDRESS}:{self._dashboard_port}"

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
        """Start it; `await_started` returns when it takes drivers."""
        if not self.token_file.is_file():
            write_private(self.token_file, secrets.token_hex(32))
        client, agent, agent_grpc, metrics = free_ports(4)
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        words += [f"--node-ip-address={_ADDRESS}", f"--port={self._port}", f"--ray-client-server-port={client}"]
        words += [f"--dashboard-host={_ADDRESS}", f"--dashboard-port={self._dashboard_port}"]
        words += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
        words += [f"--metrics-export-port={metrics}", f"--temp-dir={self.folder}"]
        words += ["--min-worker-port=0", "--max-worker-port=0"]  # else two heads' workers race for one range
        words += [f"--node-name={self._node}", f"--labels=rgrid/node={self._node}"]
        words += ["--disable-usage-stats", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        if self._cpus is not None:
            words.append(f"--num-cpus={self._cpus}")
        self._prepare_folders()
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        self._child = Child("ray", words, env=self.environment() | self._tuning(), log=self.log)
        self._child.start()

    def await_started(self) -> None:
        """Return when it takes drivers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with self.log.open("rb") as log:
                log.seek(self._begin)
                if _STARTED in log.read():
                    return
            if not self.alive():
                raise RGridError(Code.GRID_START_FAILED, f"Ray did not start: {last_words(self.log)} ({self.log})")
            time.sleep(0.05)
        raise RGridError(Code.GRID_START_FAILED, f"Ray did not start in {START_SECONDS:.0f} s ({self.log})")

    def stop(self) -> None:
        """End it with everything it started. Never `ray stop`: that ends every Ray on the machine."""
        if self._child is not None:
            self._child.stop(STOP_SECONDS)
        self._child = None

    def forget(self) -> None:
        """Let the next head begin as a new cluster."""
        forget(self._home)

    @property
    def folder(self) -> Path:
        """Where Ray keeps sessions and sockets. Ray opens it to everybody at every `ray.init`; its parent is ours."""
        return self._private / "t"

    @property
    def _private(self) -> Path:
        return _folder_of(self._home)

    def _prepare_folders(self) -> None:
        """Make the folders, ours alone; where Ray's is elsewhere, leave a link to it. Sessions of long ago go."""
        for folder in (self._private, self._home / "gcs", self.log.parent):
            with suppress(FileExistsError):
                folder.mkdir(parents=True, mode=0o700)
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                raise RGridError(Code.GRID_START_FAILED, f"{folder} belongs to somebody else", hint="Remove it.")
            folder.chmod(0o700)
        link = self._home / "ray"
        if link != self._private and not link.is_symlink():
            link.symlink_to(self._private)
        sessions = sorted(path for path in self.folder.glob("session_2*") if path.is_dir() and not path.is_symlink())
        for session in sessions[:-_KEPT_SESSIONS]:
            shutil.rmtree(session, ignore_errors=True)

    def _tuning(self) -> dict[str, str]:
        return {
            **_ONE_MACHINE,
            # Before it ends, a node of Ray's waits half a minute for its actors to go. Ours stay to the end.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
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


def forget(home: Path) -> None:
    """Remove Ray's memory, and its folder where that is not in the home. Jobs are in Postgres."""
    shutil.rmtree(home / "gcs", ignore_errors=True)
    if _folder_of(home) != home / "ray":
        shutil.rmtree(_folder_of(home), ignore_errors=True)
        (home / "ray").unlink(missing_ok=True)


def _folder_of(home: Path) -> Path:
    own = home / "ray"
    if len(str(own)) <= _LONGEST_FOLDER:
        return own
    name = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    return Path("/tmp") / f"rgrid-{name}"  # noqa: S108  # a socket's path must be short; it is checked to be ours
