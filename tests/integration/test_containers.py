"""The Docker adapter on a real engine: the sandbox from inside, the proofs of an end, logs, and finding again."""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from rgrid.domain.ids import GridId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, JobSpec
from rgrid.domain.resources import MIB, Resources
from rgrid.errors import Code, RGridError
from rgrid.store.new_ids import new_job_id
from rgrid_actors.containers.docker import DockerContainers
from rgrid_actors.containers.port import Exit, ImageUnavailableError, LogEntry

IMAGE = "python:3.11"


class Bench:
    """Containers of one test, all gone after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        grid = GridId(hashlib.sha256(str(folder).encode()).hexdigest()[:8])
        self.containers = DockerContainers(grid, NodeName("n1"))
        self.api = docker.APIClient(version="auto")
        self.image = self.containers.find_image(IMAGE)
        self.began = time.time()

    def order(self, script: str, **more: object) -> AttemptOrder:
        ref = AttemptRef(new_job_id(), 1, Lease("1.1"))
        spec = replace(JobSpec(("python", "-u", "-c", script), IMAGE), **more)
        return AttemptOrder(ref, Owner("me"), "job", spec)

    def create(self, order: AttemptOrder) -> str:
        workspace = self.folder / order.ref.job
        workspace.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(workspace, 65534, 65534)
        ids = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        return self.containers.create(order, workspace=workspace, uid=ids[0], gid=ids[1], image_id=self.image)

    def start(self, script: str, **more: object) -> str:
        container = self.create(self.order(script, **more))
        self.containers.start(container)
        return container

    def finish(self, container: str, seconds: float = 60) -> Exit:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (found := self.containers.inspect(container)) is not None:
                return found
            time.sleep(0.02)
        raise AssertionError("it did not end")

    def output(self, container: str, cursor: str = "") -> dict[str, bytes]:
        entries = list(self.containers.logs(container, cursor=cursor, follow=False))
        return {s: b"".join(e.data for e in entries if e.stream == s) for s in ("stdout", "stderr")}

    def await_output(self, container: str) -> None:
        deadline = time.monotonic() + 20
        while not self.output(container)["stdout"] and time.monotonic() < deadline:
            time.sleep(0.05)

    def run(self, script: str, **more: object) -> tuple[Exit, dict[str, bytes]]:
        container = self.start(script, **more)
        found = self.finish(container)
        return found, self.output(container)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        made = Bench(Path(folder))
        yield made
        for found in made.containers.find():
            made.containers.remove(found.id)
        for network in made.api.networks(filters={"label": f"rgrid.grid={made.containers._grid}"}):
            made.api.remove_network(network["Id"])
        made.api.close()
        made.containers.close()


def test_the_sandbox_from_inside(bench: Bench) -> None:
    script = """
import json, os, socket, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def tries(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return "worked"
print(json.dumps({
    "uid": os.getuid(), "cwd": os.getcwd(), "home": os.environ["HOME"], "caps": status["CapEff"].strip(),
    "nnp": status["NoNewPrivs"].strip(), "root": tries(lambda: open("/etc/x", "w")),
    "workspace": tries(lambda: open("x", "w")), "tmp": tries(lambda: open("/tmp/x", "w")),
    "tmp_full": tries(lambda: open("/tmp/big", "wb").write(bytes(200 * 1024**2))),
    "network": os.listdir("/sys/class/net"), "stdin": sys.stdin.read(),
    "job": os.environ["RGRID_JOB_ID"], "socket": os.path.exists("/var/run/docker.sock"),
}))
"""
    _, output = bench.run(script)
    found = json.loads(output["stdout"])
    assert found["uid"] != 0
    assert found["cwd"] == found["home"] == "/workspace"
    assert int(found["caps"], 16) == 0
    assert found["nnp"] == "1"
    assert found["root"] == "Read-only file system"
    assert found["workspace"] == found["tmp"] == "worked"
    assert found["tmp_full"] == "No space left on device"
    assert found["network"] == ["lo"]
    assert found["stdin"] == ""
    assert found["socket"] is False


def test_limits_are_the_engines(bench: Bench) -> None:
    container = bench.create(bench.order("pass", resources=Resources(500, 128 * MIB)))
    host = bench.api.inspect_container(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        128 * MIB,
        128 * MIB,
        500_000_000,
        256,
    )
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]


def test_more_cpus_than_the_machine_has_are_all_it_has(bench: Bench) -> None:
    container = bench.create(bench.order("pass", resources=Resources(900_000, 128 * MIB)))
    assert bench.api.inspect_container(container)["HostConfig"]["NanoCpus"] == bench.api.info()["NCPU"] * 10**9


def test_a_fork_bomb_meets_its_limit(bench: Bench) -> None:
    script = """
import os, sys, time
pids = []
try:
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            time.sleep(30); os._exit(0)
        pids.append(pid)
except BlockingIOError:
    print("stopped")
for pid in pids: os.kill(pid, 9)
"""
    _, output = bench.run(script, pids_limit=40)
    assert output["stdout"] == b"stopped\n"


def test_memory_beyond_the_limit_is_testified_twice(bench: Bench) -> None:
    container = bench.start("b = bytearray(1024**3)\nfor i in range(0, len(b), 4096): b[i] = 1")
    found = bench.finish(container)
    assert (found.exit_code, found.oom_killed) == (137, True)
    replayed = bench.containers.events(since=bench.began)
    kinds = [next(replayed).kind, next(replayed).kind]
    replayed.close()
    assert sorted(kinds) == ["die", "oom"]


def test_a_child_that_is_killed_is_counted_though_the_script_lives_on(bench: Bench) -> None:
    script = """
import subprocess, sys, time
hog = "b = bytearray(1024**3)\\nfor i in range(0, len(b), 4096): b[i] = 1"
print(subprocess.run([sys.executable, "-c", hog]).returncode)
time.sleep(2)
"""
    container = bench.start(script)
    kills, deadline = 0, time.monotonic() + 30
    while kills == 0 and time.monotonic() < deadline:
        usage = bench.containers.usage(container)
        kills = usage.oom_kills if usage else 0
    assert kills == 1
    assert bench.finish(container).exit_code == 0
    assert bench.output(container)["stdout"] == b"-9\n"


def test_figures_while_it_lives(bench: Bench, eventually: Callable[..., object]) -> None:
    container = bench.start("import time\nb = bytearray(64 * 1024**2)\nprint('up')\ntime.sleep(60)")
    eventually(lambda: (u := bench.containers.usage(container)) and (u.peak_memory_bytes or 0) > 60 * MIB, 20)
    usage = bench.containers.usage(container)
    assert usage is not None
    assert usage.cpu_seconds is not None
    began = time.perf_counter()
    for _ in range(100):
        bench.containers.usage(container)
    assert (time.perf_counter() - began) / 100 < 0.005
    bench.containers.signal(container, "SIGKILL")
    bench.finish(container)
    assert bench.containers.usage(container) is None


def test_a_hundred_thousand_lines_in_order_and_two_streams_apart(bench: Bench) -> None:
    script = "import sys\nfor i in range(100_000): print(i)\nprint('apart', file=sys.stderr)"
    container = bench.start(script)
    bench.finish(container)
    output = bench.output(container)
    assert output["stdout"] == b"".join(b"%d\n" % i for i in range(100_000))
    assert output["stderr"] == b"apart\n"


def test_long_lines_and_a_last_one_without_an_end(bench: Bench) -> None:
    container = bench.start("print('x' * 50_000)\nprint('ünï', end='')")
    bench.finish(container)
    assert bench.output(container)["stdout"] == b"x" * 50_000 + "\nünï".encode()


def test_a_log_is_read_on_exactly_where_it_was_left(bench: Bench) -> None:
    container = bench.start("for i in range(3000): print(i)")
    bench.finish(container)
    entries: list[LogEntry] = list(bench.containers.logs(container, cursor="", follow=False))
    for at in (0, 1, 17, 1500, len(entries) - 1):
        rest = list(bench.containers.logs(container, cursor=entries[at].cursor, follow=False))
        assert [e.data for e in rest] == [e.data for e in entries[at + 1 :]]


def test_a_follower_hears_at_once(bench: Bench) -> None:
    container = bench.start("import time\nprint('first')\ntime.sleep(3)\nprint('last')")
    stream = bench.containers.logs(container, cursor="")
    assert next(stream).data == b"first\n"
    assert bench.containers.inspect(container) is None, "it came while the script still runs"
    assert [e.data for e in stream] == [b"last\n"]
    stream.close()


def test_a_second_try_finds_the_first_container(bench: Bench) -> None:
    order = bench.order("pass")
    container = bench.create(order)
    assert bench.create(order) == container
    assert [(f.id, f.ref) for f in bench.containers.find()] == [(container, order.ref)]
    assert bench.containers.inspect(container) is None, "made is not ended"
    bench.containers.start(container)
    bench.containers.start(container)


def test_another_grid_does_not_see_it(bench: Bench) -> None:
    bench.create(bench.order("pass"))
    for grid, node in (("other", "n1"), (bench.containers._grid, "n2")):
        stranger = DockerContainers(GridId(grid), NodeName(node))
        assert stranger.find() == []
        stranger.close()


def test_sigterm_reaches_the_script(bench: Bench) -> None:
    script = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(7))\nprint('up')\ntime.sleep(60)"
    container = bench.start(script)
    bench.await_output(container)
    bench.containers.signal(container, "SIGTERM")
    assert bench.finish(container).exit_code == 7
    bench.containers.signal(container, "SIGKILL")


def test_a_script_without_a_handler_ends_by_sigterm(bench: Bench) -> None:
    container = bench.start("import time\nprint('up')\ntime.sleep(60)")
    bench.await_output(container)
    bench.containers.signal(container, "SIGTERM")
    assert bench.finish(container, 5).exit_code == 143


def test_nothing_is_left_behind(bench: Bench) -> None:
    before = {v["Name"] for v in bench.api.volumes()["Volumes"] or []}
    container = bench.start("print()")
    bench.finish(container)
    bench.containers.remove(container)
    bench.containers.remove(container)
    assert bench.containers.find() == []
    assert {v["Name"] for v in bench.api.volumes()["Volumes"] or []} == before
    with pytest.raises(RGridError) as caught:
        bench.containers.inspect(container)
    assert caught.value.code is Code.NOT_FOUND


def test_what_has_ended_is_not_started_a_second_time(bench: Bench) -> None:
    container = bench.start("print('once')")
    bench.finish(container)
    bench.containers.start(container)
    assert bench.containers.inspect(container) is not None
    assert bench.output(container)["stdout"] == b"once\n"


def test_a_network_of_its_own_only_when_asked(bench: Bench) -> None:
    container = bench.create(bench.order("pass", network=True))
    mode = bench.api.inspect_container(container)["HostConfig"]["NetworkMode"]
    [network] = bench.api.networks(names=[mode])
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"


@pytest.mark.parametrize("image", ["no-such-image-at-all:1", "127.0.0.1:9/nothing:1", "NOT A NAME"])
def test_an_image_that_cannot_be_had(bench: Bench, image: str) -> None:
    with pytest.raises(ImageUnavailableError) as caught:
        bench.containers.pull_image(image, lambda _: None, deadline=time.monotonic() + 60)
    assert "\n" not in str(caught.value)
    assert repr(image) in str(caught.value)


def test_a_command_the_image_lacks(bench: Bench) -> None:
    container = bench.create(bench.order("", command=("no-such-command",)))
    bench.containers.start(container)
    assert bench.finish(container).exit_code == 127


def test_no_engine_is_said_plainly() -> None:
    nobody = DockerContainers(GridId("g"), NodeName("n"), host="unix:///nonexistent.sock")
    with pytest.raises(RGridError) as caught:
        nobody.ping()
    assert caught.value.code is Code.DOCKER_UNREACHABLE


def test_the_engine_says_its_version(bench: Bench) -> None:
    said = subprocess.run(
        ["docker", "version", "-f", "{{.Server.Version}}"], capture_output=True, text=True, check=True
    )
    assert bench.containers.ping() == said.stdout.strip()
