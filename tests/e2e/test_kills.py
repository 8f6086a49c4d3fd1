"""What dies, dies for real; and each job still ends once, correctly."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Grid

COUNT = """
import time
for i in range(16):
    print("n", i, flush=True)
    time.sleep(0.5)
"""
COUNTED = "".join(f"n {i}\n" for i in range(16))


@pytest.fixture
def counting(tmp_path: Path) -> str:
    path = tmp_path / "count.py"
    path.write_text(COUNT)
    return str(path)


def one_attempt(grid: Grid, job: str) -> None:
    shown = grid.json("show", job)
    assert (shown["state"], shown["exit_code"], len(shown["attempts"])) == ("succeeded", 0, 1), shown
    kinds = [event["type"] for event in events(grid, job)]
    assert kinds.count("succeeded") == kinds.count("assigned") == 1
    assert grid("logs", job, "--stdout").stdout == COUNTED


def events(grid: Grid, job: str) -> list[dict[str, object]]:
    from rgrid.client import Client
    from rgrid.home import read_grid

    local = read_grid(grid.home)
    assert local is not None
    client = Client(local.api_url, local.api_key)
    found = [event.model_dump() for event in client.events(job)]
    client.close()
    return found


def node(grid: Grid) -> str:
    return grid.json("nodes")[0]["name"]


@pytest.mark.parametrize("victims", [("scheduler",), ("executor",), ("scheduler", "executor"), ("gateway",)])
def test_a_process_is_killed_while_a_job_runs(
    grid: Grid, counting: str, victims: tuple[str, ...], eventually: Callable[..., object]
) -> None:
    following = grid.start("run", "--name", "-".join(victims), counting)
    assert following.stdout is not None
    assert following.stdout.readline() == "n 0\n"
    names = [f"executor:{node(grid)}" if v == "executor" else v for v in victims]
    pids = {name: grid.pid(name) for name in names}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    rest, err = following.communicate(timeout=90)
    assert following.returncode == 0, err
    assert "n 0\n" + rest == COUNTED, "the follower missed nothing and saw nothing twice"
    one_attempt(grid, grid.json("show", "last")["id"])
    eventually(lambda: all(grid.pid(name) not in {None, pids[name]} for name in names), 30, 0.5)


def test_an_executor_dies_before_the_end_is_reported(
    grid: Grid, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    """The script ends while nobody watches: the next executor finds how."""
    path = tmp_path / "short.py"
    path.write_text("import time\nprint('up', flush=True)\ntime.sleep(1.5)\nprint('end')\nraise SystemExit(9)")
    following = grid.start("run", str(path))
    assert following.stdout is not None
    assert following.stdout.readline() == "up\n"
    name = f"executor:{node(grid)}"
    for _ in range(2):
        pid = grid.pid(name)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: grid.pid(name) not in {None, pid}, 30, 0.3)
    rest, _ = following.communicate(timeout=60)
    assert (following.returncode, rest) == (9, "end\n")


def test_nothing_is_left_on_the_engine(grid: Grid, eventually: Callable[..., object]) -> None:
    name = grid.json("status")["grid"]

    def containers() -> str:
        words = ["docker", "ps", "-aq", "--filter", f"label=rgrid.grid={name}"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    eventually(lambda: containers() == "", 30, 0.5)
    attempts = grid.home / "nodes" / node(grid) / "attempts"
    eventually(lambda: list(attempts.iterdir()) == [], 10)


def test_postgres_is_killed_while_a_job_runs(grid: Grid, counting: str, eventually: Callable[..., object]) -> None:
    job = grid("submit", "--name", "postgres", counting).stdout.strip()
    eventually(lambda: grid.json("show", job)["state"] == "running", 30, 0.2)
    os.kill(grid.pid("postgres"), signal.SIGKILL)
    assert grid("wait", "--timeout", "60", job).returncode == 0
    one_attempt(grid, job)


def test_work_is_taken_while_ray_is_away(grid: Grid, counting: str, eventually: Callable[..., object]) -> None:
    """The head dies with all its actors: jobs are submitted all the same, and what ran is adopted."""
    running = grid("submit", "--name", "adopted", counting).stdout.strip()
    eventually(lambda: grid.json("show", running)["state"] == "running", 30, 0.2)
    os.kill(grid.pid("ray"), signal.SIGKILL)
    submitted = grid("submit", "--name", "meanwhile", counting)
    assert submitted.returncode == 0, submitted.stderr
    for job in (running, submitted.stdout.strip()):
        done = grid("wait", "--timeout", "120", job)
        assert done.returncode == 0, done.stderr
        one_attempt(grid, job)
