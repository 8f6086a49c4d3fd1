"""Ports and processes of a local grid: what is found free is free, and only what was recorded as ours is ended."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rgrid.errors import Code, RGridError
from rgrid.settings import load_settings
from rgrid_cli.local import lock, plan, ports
from rgrid_cli.local.processes import Child, await_end, end_recorded, record, recorded

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that lives until the test is over."""
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def lives(pid: int) -> bool:
    """Say whether a process is there and not only waits to be reaped."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_free_ports_are_free_and_differ() -> None:
    found = ports.free_ports(5)
    assert len(set(found)) == 5
    assert all(ports.is_free(port) for port in found)
    assert all(port < 32_768 for port in found), "the kernel gives the others to outgoing connections"


def test_a_port_somebody_listens_on_is_told_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        with pytest.raises(RGridError) as caught:
            ports.demand(port, "127.0.0.1")
    assert caught.value.code is Code.PORT_TAKEN
    assert f"(pid {os.getpid()})" in caught.value.message
    assert ports.demand(port, "127.0.0.1") == port


def test_only_same_pid_and_same_birth_is_ours(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    path = tmp_path / "processes.json"
    record(path, {"gateway": sleeper.pid, "ray": 2**22 + 1})
    assert recorded(path) == {"gateway": sleeper.pid}
    births = json.loads(path.read_text())
    births["gateway"][1] -= 5  # the number was somebody else's then
    path.write_text(json.dumps(births))
    assert recorded(path) == {}
    assert end_recorded(path, 1) == []
    assert sleeper.poll() is None, "a stranger lives on"


def test_the_dead_that_nobody_reaped_do_not_count(tmp_path: Path, eventually: Callable[..., object]) -> None:
    process = subprocess.Popen(SLEEP)
    try:
        record(tmp_path / "p", {"gateway": process.pid})
        os.kill(process.pid, 9)
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert recorded(tmp_path / "p") == {}
        assert await_end(process.pid, 0)
    finally:
        process.wait()


def test_stopping_ends_what_was_started_too(tmp_path: Path, eventually: Callable[..., object]) -> None:
    starts_another = (
        f"import subprocess, time; p = subprocess.Popen({SLEEP!r}); print(p.pid, flush=True); time.sleep(60)"
    )
    child = Child("x", [sys.executable, "-c", starts_another], env={}, log=tmp_path / "x.log")
    child.start()
    grandchild = int(str(eventually(lambda: child.log.read_text().strip())))
    child.stop(5)
    assert not child.alive()
    assert not lives(grandchild)


def test_what_a_killed_child_left_is_ended(tmp_path: Path, eventually: Callable[..., object]) -> None:
    starts_another = (
        f"import subprocess, time; p = subprocess.Popen({SLEEP!r}); print(p.pid, flush=True); time.sleep(60)"
    )
    child = Child("x", [sys.executable, "-c", starts_another], env={}, log=tmp_path / "x.log")
    child.start()
    grandchild = int(str(eventually(lambda: child.log.read_text().strip())))
    assert child.pid is not None
    os.kill(child.pid, 9)
    eventually(lambda: not child.alive())
    assert lives(grandchild)
    child.stop(5)
    assert not lives(grandchild)


def test_a_child_that_will_not_is_made_to(tmp_path: Path, eventually: Callable[..., object]) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    child = Child("x", [sys.executable, "-c", deaf], env={}, log=tmp_path / "x.log")
    child.start()
    eventually(child.log.read_text)
    began = time.monotonic()
    child.stop(0.2)
    assert not child.alive()
    assert time.monotonic() - began < 3


def test_the_lock_tells_whether_somebody_holds_it(tmp_path: Path) -> None:
    assert not lock.is_locked(tmp_path)
    held = lock.take_lock(tmp_path)
    assert lock.is_locked(tmp_path)
    with pytest.raises(RGridError) as caught:
        lock.take_lock(tmp_path)
    assert caught.value.code is Code.GRID_BUSY
    held.close()
    assert not lock.is_locked(tmp_path)


def test_a_home_keeps_its_ports_and_secrets(tmp_path: Path) -> None:
    chosen = load_settings(home=tmp_path)
    first, as_it_was = plan.make_plan(chosen)
    assert not as_it_was
    assert plan.make_plan(chosen) == (first, True)
    with socket.create_server(("127.0.0.1", first.ray_port)):
        second, as_it_was = plan.make_plan(chosen)
    assert not as_it_was
    assert second.ray_port != first.ray_port
    assert (second.api_key, second.postgres_password) == (first.api_key, first.postgres_password)
