"""Nodes come and go: a second raylet joins, is lost with a job on it, and returns to be told it is not its."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rgrid.home import read_grid
from tests.conftest import Grid

WAITS = "import time\nprint('up', flush=True)\ntime.sleep({seconds})\nprint('end', flush=True)"


class Machine:
    """A raylet of its own that joins a grid's Ray under a name."""

    def __init__(self, grid: Grid, name: str, folder: Path) -> None:
        local = read_grid(grid.home)
        assert local is not None
        self.env = {**grid.env, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": local.ray_token_file}
        self.words = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={local.ray_address}"]
        self.words += ["--block", "--node-ip-address=127.0.0.3", f"--node-name={name}", f"--labels=rgrid/node={name}"]
        self.words += ["--num-cpus=8", "--object-store-memory=80000000", "--disable-usage-stats"]
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.words, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """End it as a power cut would: everything at once, nothing told."""
        assert self.process is not None
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in family:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=10)
        self.process.wait()
        self.process = None


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Grid, Machine]]:
    with tempfile.TemporaryDirectory(prefix="rgrid-two-") as folder:
        Path(folder).chmod(0o711)
        grid = Grid(Path(folder) / "home")
        grid.env |= {"RGRID_NODE_LOST_AFTER": "6s", "RGRID_NODE_NAME": "n1"}
        up = grid("up", "--num-cpus", "1")
        assert up.returncode == 0, up.stderr
        machine = Machine(grid, "n2", Path(folder))
        machine.start()
        yield grid, machine
        if machine.process is not None:
            machine.kill()
        grid("down")


def states(grid: Grid) -> dict[str, str]:
    return {node["name"]: node["state"] for node in grid.json("nodes")}


def containers(grid: Grid, job: str) -> int:
    words = ["docker", "ps", "-q", "--filter", f"label=rgrid.job={job}"]
    return len(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def test_a_node_joins_is_lost_and_returns(
    two: tuple[Grid, Machine], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    grid, machine = two
    eventually(lambda: states(grid) == {"n1": "ready", "n2": "ready"}, 60, 0.5)
    path = tmp_path / "s.py"
    path.write_text(WAITS.format(seconds=45))
    small, large = (grid("submit", "--cpus", cpus, str(path)).stdout.strip() for cpus in ("1", "4"))
    eventually(lambda: grid.json("show", large)["state"] == "running", 30, 0.3)
    eventually(lambda: grid.json("show", small)["state"] == "running", 30, 0.3)
    assert grid.json("show", large)["node"] == "n2", "it has room only there"
    assert grid.json("show", small)["node"] == "n1", "the fullest that fits"

    machine.kill()
    eventually(lambda: states(grid)["n2"] == "lost", 60, 0.5)
    lost = grid.json("show", large)
    assert lost["state"] == "queued", "no other node could hold it, so it waits"
    assert lost["attempts"][0]["reason"] == "node-lost"
    assert containers(grid, large) == 1, "the engine outlived the raylet, as on a machine that is only cut off"
    assert grid.json("show", small)["state"] == "running", "a loss elsewhere is nothing to it"

    machine.start()
    eventually(lambda: states(grid)["n2"] == "ready", 60, 0.5)
    eventually(lambda: grid.json("show", large)["state"] == "running", 30, 0.3)
    eventually(lambda: containers(grid, large) == 1, 30, 0.3)
    again = grid.json("show", large)
    assert [a["number"] for a in again["attempts"]] == [1, 2]
    assert grid("cancel", "--now", small, large).returncode == 0
    assert grid("wait", "--timeout", "30", small, large).returncode == 130
    eventually(lambda: containers(grid, large) == containers(grid, small) == 0, 20, 0.3)


def test_what_nobody_notified_is_found_all_the_same(
    grid: Grid, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    """A notification may be lost; the slow poll under it is what is relied on."""
    import psycopg2

    path = tmp_path / "s.py"
    path.write_text(WAITS.format(seconds=60))
    job = grid("submit", str(path)).stdout.strip()
    eventually(lambda: grid.json("show", job)["state"] == "running", 30, 0.3)
    local = read_grid(grid.home)
    assert local is not None
    connection = psycopg2.connect(local.database_url)
    connection.autocommit = True
    connection.cursor().execute("UPDATE jobs SET cancel_requested_at = now(), cancel_now = true WHERE id = %s", (job,))
    connection.close()
    assert grid("wait", "--timeout", "30", job).returncode == 130
