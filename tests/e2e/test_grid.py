"""The grid itself: up and up again, two on one machine, down without a trace, and bad input at every door."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, Grid

HELLO = "examples/no_stdin.py"


def lines(done: "subprocess.CompletedProcess[str]") -> tuple[int, str, int]:
    said = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    return done.returncode, said[0].partition(":")[0], len(said)


def test_up_again_changes_nothing(grid: Grid) -> None:
    before = grid.json("status")["pids"]
    began = time.monotonic()
    done = grid("up")
    assert done.returncode == 0
    assert "already" in done.stderr
    assert time.monotonic() - began < 5
    assert grid.json("status")["pids"] == before


def test_status_and_nodes_name_the_processes(grid: Grid) -> None:
    status = grid.json("status")
    assert status["state"] == "up"
    assert status["ready"] is True
    [node] = grid.json("nodes")
    assert node["state"] == "ready"
    assert status["pids"][f"executor:{node['name']}"] == node["pid"]
    assert {"supervisor", "postgres", "ray", "gateway", "scheduler"} <= status["pids"].keys()
    assert all(psutil.pid_exists(pid) for pid in status["pids"].values())


def test_the_dashboard_reads_well(grid: Grid, eventually: Callable[..., object]) -> None:
    """Actors show whose they are, and nobody looks without the token."""
    import httpx

    status = grid.json("status")
    token = Path(status["ray_token_file"]).read_text()
    url = f"{status['dashboard_url']}/logical/actors"
    assert httpx.get(url).status_code == 401

    def shown() -> list[str]:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
        return [a["reprName"] for a in answer.json()["data"]["actors"].values() if a["state"] == "ALIVE"]

    eventually(lambda: any(name.startswith("Executor(") for name in shown()), 30, 0.5)
    assert any(name.startswith("Scheduler(") for name in shown())


def test_doctor_finds_all_well_and_lists_every_setting(grid: Grid) -> None:
    from rgrid.settings import Settings

    done = grid("doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert all(check["ok"] for check in found["checks"]), found["checks"]
    assert {s["setting"] for s in found["settings"]} == {f"RGRID_{name.upper()}" for name in Settings.model_fields}


def test_db_commands(grid: Grid) -> None:
    assert "(head)" in grid("db", "current").stdout
    assert grid("db", "upgrade").returncode == 0
    assert grid("db", "history").stdout.count("0001") == 1


def test_keys_and_owners(grid: Grid) -> None:
    assert grid("run", HELLO).returncode == 0
    job = grid.json("show", "last")["id"]
    made = grid.json("keys", "create", "guest")
    guest = {"RGRID_API_KEY": made["key"]}
    assert json.loads(grid("list", "--json", env=guest).stdout) == []
    assert lines(grid("show", job, env=guest)) == (2, "error[job-not-found]", 2)
    assert grid("run", HELLO, env=guest).returncode == 0
    assert grid.json("show", "last")["id"] == job, "an operator's last job is the operator's own"
    assert lines(grid("keys", "list", env=guest)) == (125, "error[not-allowed]", 2)
    assert grid("keys", "revoke", made["id"]).returncode == 0
    [own] = [key for key in grid.json("keys", "list") if key["name"] == "local grid"]
    assert lines(grid("keys", "revoke", own["id"])) == (2, "error[key-in-use]", 2)
    assert lines(grid("list", env={"RGRID_API_KEY": "rg_wrong"})) == (125, "error[key-wrong]", 2)


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (["run", "--memory", "9999G", HELLO], {}, (2, "error[limit-exceeded]", 2)),
        (["run", "--image", "python:3.11", "README"], {}, (2, "error[script-not-found]", 2)),
        (["run", HELLO, "caf\udce9"], {}, (2, "error[usage]", 2)),
        (["run", "--memmory", "2G", HELLO], {}, (2, "error[usage]", 2)),
        (["run", "--outputs", "/dev/null", HELLO], {}, (2, "error[path-invalid]", 2)),
        (["run", "--detach", "--outputs", "out", HELLO], {}, (2, "error[option-invalid]", 2)),
        (["db", "downgrade", "-1"], {}, (125, "error[grid-busy]", 2)),
        (["list"], {"RGRID_API_KEY": "bad\nkey"}, (2, "error[setting-invalid]", 2)),
        (["list"], {"RGRID_LOG_LEVEL": "LOUD"}, (2, "error[setting-invalid]", 2)),
        (["up"], {"RGRID_HOST": "nonsense"}, (2, "error[setting-invalid]", 2)),
        (["show", "zzzz"], {}, (2, "error[job-not-found]", 2)),
        (["list"], {"RGRID_API_URL": "http://127.0.0.1:9"}, None),
        (["list"], {"RGRID_API_URL": "nonsense"}, (2, "error[setting-invalid]", 2)),
        (["list"], {"RGRID_HOME": "/nonexistent/home"}, (125, "error[grid-not-configured]", 2)),
        (
            ["db", "current"],
            {"RGRID_DATABASE_URL": "postgresql://u:p@127.0.0.1:9/x"},
            (125, "error[database-unreachable]", 2),
        ),
        (
            ["up", "--port", "1"],
            {"RGRID_HOME": "{new}", "DOCKER_HOST": "unix:///nonexistent"},
            (125, "error[docker-unreachable]", 2),
        ),
        (["list"], {"RGRID_MAX_MEMORY": "lots"}, (2, "error[setting-invalid]", 2)),
    ],
)
def test_bad_input_at_the_door(
    grid: Grid, tmp_path: Path, words: list[str], env: dict[str, str], told: tuple[int, str, int] | None
) -> None:
    if told is None:
        pytest.importorskip("httpx")
        told = (125, "error[grid-unreachable]", 2)
    filled = {name: value.replace("{new}", str(tmp_path / "home")) for name, value in env.items()}
    assert lines(grid(*words, env=filled)) == told


def test_a_wrong_database_password(grid: Grid) -> None:
    from rgrid.home import read_grid

    local = read_grid(grid.home)
    assert local is not None
    head, _, tail = local.database_url.rpartition("@")
    url = f"{head.rsplit(':', 1)[0]}:wrong@{tail}"
    assert lines(grid("db", "current", env={"RGRID_DATABASE_URL": url})) == (125, "error[database-refused]", 2)


def test_ray_of_another_version_is_refused(grid: Grid) -> None:
    """A driver that says it has another version, against the real cluster."""
    from rgrid.home import read_grid

    local = read_grid(grid.home)
    assert local is not None
    boot = f"import sys; sys.argv = ['boot', '--ray-address', '{local.ray_address}']"
    lie = "import ray; ray.__version__ = '2.59.0'; from rgrid_actors.boot import main; raise SystemExit(main())"
    env = {**grid.env, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": local.ray_token_file}
    words = [sys.executable, "-c", f"{boot}; {lie}"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125, done.stderr
    assert "error[ray-version]" in done.stderr
    assert "2.59.0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def other() -> Iterator[Grid]:
    """A second home; whatever was started in it is gone after the test."""
    with tempfile.TemporaryDirectory(prefix="rgrid-other-") as folder:
        Path(folder).chmod(0o711)
        made = Grid(Path(folder) / "a-home-whose-path-is-rather-long-for-a-socket-of-rays")
        yield made
        made("down")


def test_a_taken_port_names_who_has_it(other: Grid) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = other("up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 125
    assert "error[port-taken]" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr


def test_two_grids_on_one_machine_and_a_supervisor_killed(grid: Grid, other: Grid) -> None:
    """A second grid beside the first: nothing is shared, nothing confused; and it comes back after the worst."""
    first = other("run", HELLO, cwd=ROOT)
    assert first.returncode == 0, first.stderr
    assert "No grid is configured: bringing one up" in first.stderr
    assert first.stdout == "0 lines on stdin\n"
    theirs, ours = other.json("status"), grid.json("status")
    assert theirs["grid"] != ours["grid"]
    assert not set(theirs["pids"].values()) & set(ours["pids"].values())
    os.kill(theirs["pids"]["supervisor"], signal.SIGKILL)
    again = other("up")
    assert again.returncode == 0, again.stderr
    assert len(other.json("list")) == 1, "nothing recorded was lost"
    assert other("run", HELLO, cwd=ROOT).returncode == 0
    family = [p for pid in other.json("status")["pids"].values() for p in _tree(pid)]
    assert other("down").returncode == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert other("status").returncode == 3
    assert other("down").returncode == 0
    assert lines(other("list"))[1] == "error[grid-unreachable]"
    assert grid("run", HELLO).returncode == 0, "the first grid noticed nothing"


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
