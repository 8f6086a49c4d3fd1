"""A node that nobody cleans: many jobs over many environments leave it under its mark, and nothing else behind."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rgrid.client import Client
from rgrid.domain.lifecycle import TERMINAL
from rgrid.domain.resources import MIB
from rgrid.home import read_grid
from rgrid.wire import Dependencies, FileEntry, Submission
from rgrid_actors.artifacts import disk_usage
from tests.conftest import Grid
from tests.integration.test_environments import wheel

pytestmark = pytest.mark.timeout(900)
ENVIRONMENTS, JOBS, LOW = 20, 200, 32 * MIB


@pytest.fixture
def small(grid_in: type[Grid]) -> Iterator[Grid]:
    with tempfile.TemporaryDirectory(prefix="rgrid-disk-") as folder:
        Path(folder).chmod(0o711)
        made = grid_in(Path(folder) / "home")
        made.env |= {"RGRID_CACHE_HIGH": "48MiB", "RGRID_CACHE_LOW": "32MiB"}
        up = made("up")
        assert up.returncode == 0, up.stderr
        yield made
        made("down")


def test_two_hundred_jobs_over_twenty_environments(small: Grid, eventually: Callable[..., object]) -> None:
    local = read_grid(small.home)
    assert local is not None
    client = Client(local.api_url, local.api_key)

    def upload(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        client.upload(digest, lambda: iter([data]))
        return digest

    script = b"import big\nprint(len(big.DATA))\nopen('out', 'w').write('x')\n"
    code = FileEntry(path="s.py", digest=upload(script), size=len(script))
    needs = []
    for _ in range(ENVIRONMENTS):
        data = wheel("big", f"DATA = {os.urandom(2 * MIB).hex()!r}")
        needs.append(FileEntry(path="big-1.0-py3-none-any.whl", digest=upload(data), size=len(data)))
    jobs = []
    for number in range(JOBS):
        needed = needs[number % ENVIRONMENTS]
        deps = Dependencies(source="test", requirements=[f"./{needed.path}"], files=[needed.path])
        wish = Submission(
            script="s.py", inputs=[code, needed], dependencies=deps, cpu_millis=250, memory_bytes=128 * MIB
        )
        jobs.append(client.submit(wish).id)
    for job in jobs:
        found = client.job(job, wait=60)
        while found.state not in TERMINAL:
            found = client.job(job, wait=60)
        assert found.reason == "exit", found
        assert found.exit_code == 0, b"".join(client.log(job, "stderr")).decode()
    client.close()
    [node] = (small.home / "nodes").iterdir()
    store = node / "environments"
    eventually(lambda: disk_usage(store, links_once=True) <= 48 * MIB, 120, 1)
    eventually(lambda: list((node / "attempts").iterdir()) == [], 30, 0.5)

    def docker(*words: str) -> str:
        return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout

    label = f"label=rgrid.grid={local.grid}"
    eventually(lambda: docker("ps", "-aq", "--filter", label) == "", 60, 1)
    assert docker("volume", "ls", "-q", "--filter", "dangling=true") == ""
    assert docker("images", "-q", "--filter", "dangling=true") == ""
    eventually(lambda: list((store / "building").iterdir()) == [], 30, 0.5)
