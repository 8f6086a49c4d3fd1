"""The grid on one machine: it comes up, comes back after any part was killed, goes down, and leaves nothing behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rgrid_cli.local.lock import is_locked

#: A process by what cannot be given to another: its pid and its birth.
Births = set[tuple[int, float]]
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a short folder that Postgres's own user may pass: unix sockets have short names, pytest's folders long."""
    with tempfile.TemporaryDirectory(prefix="rgrid-local-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(scope="module")
def local(folder: Path, grid_in: Callable[[Path], Any]) -> Iterator[Any]:
    """Bring one grid up for all tests here; after them it must leave no process."""
    grid = grid_in(folder / "home")
    up = grid("up", "--num-cpus", "2")
    assert up.returncode == 0, up.stderr
    for step in ("Postgres", "Ray", "gateway", "scheduler and executor"):
        assert f"  {step} (" in up.stderr
    yield grid
    whole = family(grid)
    down = grid("down")
    assert down.returncode == 0, down.stderr
    assert alive(whole) == []
    assert grid("down").stderr.strip() == "No grid was up."
    assert grid("status").returncode == 3


def family(grid: Any) -> Births:
    """Return every process of a grid that is up."""
    found: Births = set()
    for pid in grid.json("status")["pids"].values():
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            found.add((process.pid, process.create_time()))
    assert len(found) > 10
    return found


def alive(births: Births) -> list[str]:
    """Return those that still live, by name."""
    left = []
    for pid, birth in births:
        try:
            process = psutil.Process(pid)
            if process.create_time() == birth and process.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(process.cmdline())[:100])
        except psutil.NoSuchProcess:
            continue
    return left


def kill(grid: Any, part: str) -> int:
    """End one part as no program expects to be ended; return its pid."""
    pid = int(grid.pid(part))
    os.kill(pid, signal.SIGKILL)
    return pid


def is_well_again(grid: Any, part: str, old: int) -> Callable[[], bool]:
    """Say whether a part has a new process and the grid is ready."""

    def look() -> bool:
        done = grid("status", "--json")
        if done.returncode != 0:
            return False
        status = json.loads(done.stdout)
        ready = any(node["state"] == "ready" for node in status["nodes"])
        return bool(status["ready"] and ready and status["pids"].get(part) not in {None, old})

    return look


def began_afresh(grid: Any) -> bool:
    """Say whether the supervisor ever had to wipe Ray's memory."""
    return "empty memory" in (grid.home / "logs" / "supervisor.log").read_text()


def test_up_again_is_quick_and_changes_nothing(local: Any) -> None:
    before, began = local.json("status"), time.monotonic()
    again = local("up")
    assert again.returncode == 0
    assert "up already" in again.stderr
    assert time.monotonic() - began < 4
    assert local.json("status")["pids"] == before["pids"]


def test_nothing_listens_outside_loopback(local: Any) -> None:
    listening: dict[str, str] = {}
    for pid, _ in family(local):
        try:
            process = psutil.Process(pid)
            for at in process.net_connections("tcp"):
                if at.status == psutil.CONN_LISTEN:
                    listening[f"{at.laddr.ip}:{at.laddr.port}"] = process.name()
        except psutil.NoSuchProcess:  # Ray keeps a few idle workers and lets them go
            continue
    assert len(listening) > 6
    assert {at: name for at, name in listening.items() if at.rpartition(":")[0] not in LOOPBACK} == {}


def test_what_is_secret_is_its_owners_alone(local: Any) -> None:
    for name in ("grid.json", "local.json", "ray_token", "processes.json"):
        assert stat.S_IMODE((local.home / name).stat().st_mode) == 0o600, name
    for name in ("ray", "gcs", "logs", "postgres"):
        assert stat.S_IMODE((local.home / name).stat().st_mode) == 0o700, name


def test_env_lets_a_ray_program_in(local: Any) -> None:
    program = "import ray; ray.init(namespace='rgrid', log_to_driver=False); print(len(ray.nodes()))"
    script = f'eval "$(RGRID_HOME={local.home} {sys.executable} -m rgrid_cli env)"'
    done = subprocess.run(
        ["bash", "-c", f'{script} && exec "$0" -c "$1"', sys.executable, program],
        env={k: v for k, v in os.environ.items() if not k.startswith(("RGRID_", "RAY_"))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "1", done.stderr


def test_doctor_finds_all_well(local: Any) -> None:
    found = local.json("doctor")
    assert [check for check in found["checks"] if not check["ok"]] == []
    settings = {one["setting"]: one for one in found["settings"]}
    assert settings["RGRID_HOME"]["source"] == "environment"
    assert all(one["meaning"] for one in settings.values())


@pytest.mark.parametrize("part", ["gateway", "postgres"])
def test_a_killed_part_comes_back(local: Any, part: str, eventually: Callable[..., object]) -> None:
    url = local.json("status")["api_url"]
    old = kill(local, part)
    eventually(is_well_again(local, part, old), 30)
    assert local.json("status")["api_url"] == url


def test_a_killed_ray_head_comes_back_with_its_actors(local: Any, eventually: Callable[..., object]) -> None:
    actors = {part: pid for part, pid in local.json("status")["pids"].items() if part.startswith(("sched", "exec"))}
    assert len(actors) == 2
    old = kill(local, "ray")
    eventually(is_well_again(local, "ray", old), 60)
    for part, pid in actors.items():  # each comes back by itself, and until then its row tells of the old one
        eventually(is_well_again(local, part, pid), 60)
    assert not began_afresh(local), "Ray's own memory brought them back"


def test_up_after_the_supervisor_was_killed(local: Any, eventually: Callable[..., object]) -> None:
    before = family(local)
    kill(local, "supervisor")
    eventually(lambda: not is_locked(local.home))
    assert local("status").returncode == 3
    up = local("up")
    assert up.returncode == 0, up.stderr
    assert alive(before) == []
    assert is_well_again(local, "supervisor", 0)()
    assert not began_afresh(local), "Ray's own memory brought the actors back"


def test_another_home_is_another_grid(
    local: Any, folder: Path, grid_in: Callable[[Path], Any], eventually: Callable[..., object]
) -> None:
    """Its path is longer than a unix socket's may be, two commands bring it up at once, and it ends by accident."""
    far = folder / ("a-folder-with-a-long-name-" * 5) / "home with a space"
    far.parent.mkdir(mode=0o711)
    other, mine = grid_in(far), local.json("status")
    try:
        both = [other.start("up"), other.start("up")]
        for up in both:
            _, said = up.communicate(timeout=90)
            assert up.returncode == 0, said
        theirs = other.json("status")
        assert theirs["ready"]
        assert theirs["grid"] != mine["grid"]
        assert not set(theirs["pids"].values()) & set(mine["pids"].values())
        whole, elsewhere = family(other), (far / "ray").readlink()
        assert (elsewhere / "t" / "session_latest").exists()
        kill(other, "supervisor")
        eventually(lambda: not is_locked(far))
        assert other.json("down")["ended"] is True
        assert alive(whole) == []
        assert other.json("down")["ended"] is False
        assert not elsewhere.exists()
    finally:
        other("down")
    assert local.json("status")["pids"] == mine["pids"], "the first grid did not notice"


def test_down_while_it_comes_up(
    folder: Path, grid_in: Callable[[Path], Any], eventually: Callable[..., object]
) -> None:
    grid = grid_in(folder / "brief")
    up = grid.start("up")
    eventually(lambda: "ray" in _recorded(grid.home), 30)
    births = {(pid, birth) for pid, birth in _recorded(grid.home).values()}
    assert grid("down").returncode == 0
    _, said = up.communicate(timeout=30)
    assert up.returncode == 125
    assert "error[grid-start-failed]: " in said
    assert "Traceback" not in said
    assert alive(births) == []
    assert grid("status").returncode == 3


def test_a_port_that_is_taken(folder: Path, grid_in: Callable[[Path], Any]) -> None:
    grid = grid_in(folder / "taken")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        up = grid("up", "--port", str(port))
    assert up.returncode == 125
    me = psutil.Process().name()
    assert (
        up.stderr.splitlines()[0] == f"error[port-taken]: port {port} on 127.0.0.1 is taken by {me} (pid {os.getpid()})"
    )
    assert not is_locked(grid.home)


def test_no_docker_engine(folder: Path, grid_in: Callable[[Path], Any]) -> None:
    grid = grid_in(folder / "engineless")
    up = grid("up", env={"RGRID_DOCKER_HOST": f"unix://{folder}/nobody.sock"})
    assert up.returncode == 125
    assert up.stderr.startswith("error[docker-unreachable]: ")
    assert len(up.stderr.splitlines()) == 2
    assert not (grid.home / "postgres").exists(), "nothing was started"


def test_a_database_that_does_not_answer(folder: Path, grid_in: Callable[[Path], Any]) -> None:
    grid = grid_in(folder / "databaseless")
    up = grid("up", "--database-url", "postgresql://u:p@127.0.0.1:1/x")
    assert up.returncode == 125
    assert "error[database-unreachable]: " in up.stderr
    assert ":p@" not in up.stderr
    assert _recorded(grid.home) == {}


def _recorded(home: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((home / "processes.json").read_text()))
    except FileNotFoundError:
        return {}
