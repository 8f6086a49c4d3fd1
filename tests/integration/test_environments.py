"""Environments on a real engine: built once, read-only, and no package harms its neighbour. Packages are made here."""

import asyncio
import hashlib
import io
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from uv import find_uv_bin

from rgrid.domain.dependencies import Dependencies
from rgrid.domain.ids import Digest, GridId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, InputFile, JobSpec
from rgrid.domain.resources import MIB
from rgrid.store.memory import MemoryBlobs, MemoryLocks
from rgrid.store.new_ids import new_job_id
from rgrid_actors import artifacts
from rgrid_actors.artifacts import Ids
from rgrid_actors.containers.docker import DockerContainers
from rgrid_actors.environments.environments import DependenciesError, Environment, Environments
from rgrid_actors.environments.site import Site
from rgrid_actors.in_thread import InThread

IMAGE = "python:3.11"
BACKEND = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
#: A build backend that needs nothing from any index, and runs what it is told to.
BUILD = """
import os, zipfile
def _write(folder):
    {code}
    name = "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("{name}.py", "VALUE = 1")
        wheel.writestr("{name}-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        words = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("{name}-1.0.dist-info/WHEEL", words)
        wheel.writestr("{name}-1.0.dist-info/RECORD", "")
    return name
def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _write(folder)
"""


def wheel(name: str, content: str = "VALUE = 1") -> bytes:
    """Make a wheel of one module."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        files = {
            f"{name}.py": content,
            f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{name}-1.0.dist-info/RECORD": "",
        }
        for path, text in files.items():  # made again it is the same, bit by bit
            entry = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def sdist(name: str, code: str) -> bytes:
    """Make a source distribution whose build runs `code`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        files = {
            "pyproject.toml": BACKEND,
            "backend.py": BUILD.format(name=name, code=code),
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        }
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


class Node:
    """The environments of a node that lives as long as a test."""

    def __init__(self, folder: Path) -> None:
        grid = GridId(hashlib.sha256(str(folder).encode()).hexdigest()[:8])
        self.containers = DockerContainers(grid, NodeName("n1"))
        image = self.containers.find_image(IMAGE)
        assert image is not None
        self.image, self.blobs, self.locks = image, MemoryBlobs(), MemoryLocks()
        self.ids = Ids(65534, 65534) if os.geteuid() == 0 else Ids(os.getuid(), os.getgid())
        self.pool = ThreadPoolExecutor(64)
        self.site = Site(Path(find_uv_bin()), 1024 * MIB, 512 * MIB, "rgrid-builder/{image}")
        self.folder = folder / "environments"
        self.told: list[str] = []
        self.builds = 0
        run = self.containers.run_builder

        def counted(order, bounds, tell):  # noqa: ANN001, ANN202
            self.builds += not order.background
            return run(order, bounds, tell)

        self.containers.run_builder = counted  # type: ignore[method-assign]

    def environments(self, **changes: object) -> Environments:
        made = Environments(
            self.folder,
            self.containers,
            self.locks,
            self.blobs,
            InThread(self.pool),
            self.ids,
            replace(self.site, **changes),  # type: ignore[arg-type]
        )
        made.start()
        return made

    def order(self, files: dict[str, bytes], *, seconds: float = 120, **more: object) -> AttemptOrder:
        inputs = []
        for name, data in files.items():
            digest = Digest(hashlib.sha256(data).hexdigest())
            self.blobs.put(digest, [data], owner=Owner("me"), limit=10**9)
            inputs.append(InputFile(name, digest, len(data)))
        lines = more.pop("requirements", tuple(f"./{name}" for name in files))
        deps = Dependencies("python", "test", lines, files=tuple(files), **more)  # type: ignore[arg-type]
        spec = JobSpec(("python",), IMAGE, inputs=tuple(inputs), dependencies=deps)
        spec = replace(spec, prepare_timeout=timedelta(seconds=seconds))
        return AttemptOrder(AttemptRef(new_job_id(), 1, Lease("1.1")), Owner("me"), "job", spec)

    async def ensure(self, environments: Environments, order: AttemptOrder) -> Environment:
        assert order.spec.dependencies is not None
        return await environments.ensure(order, order.spec.dependencies, self.image, self.told.append)

    def run(self, environment: Environment, code: str) -> str:
        order = AttemptOrder(
            AttemptRef(new_job_id(), 1, Lease("1.1")), Owner("me"), "job", JobSpec(("python", "-c", code), IMAGE)
        )
        with tempfile.TemporaryDirectory() as workspace:
            Path(workspace).chmod(0o777)
            container = self.containers.create(
                order,
                workspace=Path(workspace),
                uid=self.ids.uid,
                gid=self.ids.gid,
                image_id=self.image,
                environment=(environment.folder, environment.place),
            )
            self.containers.start(container)
            deadline = time.monotonic() + 30
            while self.containers.inspect(container) is None and time.monotonic() < deadline:
                time.sleep(0.02)
            said = b"".join(entry.data for entry in self.containers.logs(container, cursor="", follow=False))
            self.containers.remove(container)
        return said.decode()

    def left(self) -> list[str]:
        """Return what builders left that they should not have."""
        api = self.containers._api()
        rows = api.containers(all=True, filters={"label": self.containers._label_filters()})
        compiling = [row for row in rows if "compile" in row["Names"][0]]
        return [row["Names"][0] for row in rows if row not in compiling] + [
            path.name for path in (self.folder / "building").iterdir()
        ]


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory() as folder:
        made = Node(Path(folder))
        yield made
        made.pool.shutdown()
        made.containers.remove_builders()
        api = made.containers._api()
        for network in api.networks(filters={"label": f"rgrid.grid={made.containers._grid}"}):
            api.remove_network(network["Id"])
        made.containers.close()


async def test_an_environment_is_built_once_and_is_there_at_once_afterwards(node: Node) -> None:
    environments, order = node.environments(), node.order({"one-1.0-py3-none-any.whl": wheel("one")})
    first = await node.ensure(environments, order)
    assert node.builds == 1
    assert any("installing what the script needs" in line for line in node.told)
    assert node.run(first, "import one, sys; print(one.VALUE, sys.prefix)") == "1 /rgrid/env\n"
    began = time.monotonic()
    again = node.order({"one-1.0-py3-none-any.whl": wheel("one")})
    assert await node.ensure(environments, again) == first
    assert time.monotonic() - began < 0.5
    assert node.builds == 1
    lock = node.locks.find(again.ref.job, "whatever")
    assert lock is not None
    assert lock.text.startswith("./one-1.0-py3-none-any.whl"), "no place of this build is in it"
    assert node.left() == []
    assert await node.ensure(node.environments(), again) == first, "another executor finds it"


async def test_fifty_that_ask_at_once_are_served_by_one_build(node: Node) -> None:
    environments = node.environments()
    orders = [node.order({"one-1.0-py3-none-any.whl": wheel("one")}) for _ in range(50)]
    found = await asyncio.gather(*(node.ensure(environments, order) for order in orders))
    assert len(set(found)) == 1
    assert node.builds == 1


async def test_a_job_cannot_change_what_the_next_one_sees(node: Node) -> None:
    environment = await node.ensure(node.environments(), node.order({"one-1.0-py3-none-any.whl": wheel("one")}))
    code = "import one\ntry:\n    open(one.__file__, 'a')\nexcept OSError as error:\n    print(error.strerror)"
    assert node.run(environment, code) == "Read-only file system\n"


async def test_the_first_answer_stands_for_other_nodes(node: Node) -> None:
    order = node.order({"one-1.0-py3-none-any.whl": wheel("one")})
    await node.ensure(node.environments(), order)
    # Its bytecode may still be compiled when the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        other = Environments(
            Path(folder), node.containers, node.locks, node.blobs, InThread(node.pool), node.ids, node.site
        )
        other.start()
        retried = replace(order, ref=replace(order.ref, number=2))
        assert (await node.ensure(other, retried)).key
    assert node.builds == 2


async def test_what_is_built_from_source_sees_nothing_of_its_neighbours(node: Node) -> None:
    """Its code runs, but in a workshop of its own: neither the store nor the shared cache is there to be changed."""
    environments = node.environments()
    await node.ensure(environments, node.order({"one-1.0-py3-none-any.whl": wheel("one")}))
    code = (
        "import json; "
        "seen = sorted(os.listdir('/rgrid/store')); "
        "building = os.listdir('/rgrid/store/building'); "
        "assert seen == ['building'] and len(building) == 1, seen; "
        "assert os.getuid() != 0; "
        "open('/rgrid/store/building/' + building[0] + '/env-mark', 'w').close()"
    )
    environment = await node.ensure(environments, node.order({"src-1.0.tar.gz": sdist("src", code)}))
    assert node.run(environment, "import src; print(src.VALUE)") == "1\n"
    assert node.left() == []


@pytest.mark.parametrize(
    ("code", "seconds", "word"),
    [
        ("import time; time.sleep(600)", 8, "longer than the time"),
        ("x = bytearray(3 * 1024**3); x[::4096] = b'1' * len(x[::4096])", 60, "of memory"),
        (
            "f = open('big', 'wb'); [f.write(bytes(2**20)) for _ in range(4000)]; import time; time.sleep(600)",
            60,
            "disk",
        ),
        ("open('/etc/evil', 'w')", 60, "Read-only file system"),
        ("raise SystemExit('no, thank you')", 60, "no, thank you"),
    ],
)
async def test_a_build_that_misbehaves_ends_with_its_reason(node: Node, code: str, seconds: float, word: str) -> None:
    environments = node.environments()
    order = node.order({"bad-1.0.tar.gz": sdist("bad", code)}, seconds=seconds)
    with pytest.raises(DependenciesError) as caught:
        await node.ensure(environments, order)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert node.left() == []
    assert list((node.folder / "envs").iterdir()) == []
    await node.ensure(environments, node.order({"one-1.0-py3-none-any.whl": wheel("one")}))


async def test_an_archive_that_swells_is_stopped(node: Node) -> None:
    environments = node.environments(build_disk_bytes=64 * MIB)
    order = node.order({"bomb-1.0-py3-none-any.whl": wheel("bomb", "#" * (300 * MIB))})
    with pytest.raises(DependenciesError, match="of disk"):
        await node.ensure(environments, order)
    assert node.left() == []


async def test_nobody_waits_so_nothing_is_built(node: Node, eventually: Callable[..., object]) -> None:
    environments = node.environments()
    order = node.order({"slow-1.0.tar.gz": sdist("slow", "import time; time.sleep(600)")})
    waiting = asyncio.create_task(node.ensure(environments, order))
    await asyncio.to_thread(eventually, lambda: node.builds == 2, 60)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.to_thread(eventually, lambda: node.left() == [], 20)


async def test_what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays(node: Node) -> None:
    environments = node.environments(cache_high_bytes=8 * MIB, cache_low_bytes=7 * MIB)
    made = []
    for number in range(4):
        content = f"DATA = {os.urandom(MIB).hex()!r}"
        order = node.order({f"p{number}-1.0-py3-none-any.whl": wheel(f"p{number}", content)})
        made.append((order, await node.ensure(environments, order)))
        if number != 1:
            environments.release(order.ref)
        environments._site = replace(environments._site, cache_high_bytes=10**12)
    held = made[1][1]
    environments.release(made[0][0].ref)
    assert environments.hold(made[0][0].ref, made[0][1].key), "used once more"
    environments.release(made[0][0].ref)
    environments._site = replace(environments._site, cache_high_bytes=8 * MIB)
    gone = environments.evict()
    assert gone[0] == "caches"
    assert made[2][1].key in gone, "the longest unused"
    assert held.key not in gone
    assert held.folder.is_dir()
    assert artifacts.disk_usage(node.folder, links_once=True) <= 7 * MIB
    assert environments.evict() == [], "nothing was built since"
    again = await node.ensure(environments, made[2][0])
    assert node.run(again, "import p2; print(len(p2.DATA))") == f"{2 * MIB}\n"
    assert node.left() == []
