"""The environments of one node: had from its disk, or resolved and built once however many jobs ask for one.

    environments/
        envs/<key>/         an environment; never changed but for the bytecode beside its modules, never half there
        envs/<key>.used     touched at every use: what has not been used for longest goes first
        building/<id>/      workshops of builders; swept at the start, for their builders died with whoever watched
        cache/              uv's and npm's, for builds that run nobody's code

Two steps have one owner each: what a declaration is resolved to is decided by the store (the first answer stands), and
what lies under a key on this disk by a rename.
"""

import asyncio
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rgrid.domain.dependencies import Dependencies, Lock
from rgrid.domain.job import AttemptOrder
from rgrid.errors import Code, RGridError
from rgrid.store.ports import BlobStore, LockStore
from rgrid_actors import artifacts
from rgrid_actors.artifacts import Ids
from rgrid_actors.containers.builder import Bounds, BuilderOrder, Built
from rgrid_actors.containers.port import Containers
from rgrid_actors.environments import recipe as recipes
from rgrid_actors.environments.site import Site
from rgrid_actors.flights import Flights, Tell
from rgrid_actors.in_thread import InThread

log = logging.getLogger(__name__)

#: Builders of one node that work at the same time.
AT_ONCE = 2


class DependenciesError(Exception):
    """What a script needs cannot be had; the message says which and why in one line."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a job's container is given."""

    key: str
    #: On this machine.
    folder: Path
    #: Inside the container.
    place: str


class Environments:
    """The environments of one node."""

    def __init__(  # noqa: PLR0917  # its outside things, each once
        self,
        folder: Path,
        containers: Containers,
        locks: LockStore,
        blobs: BlobStore,
        in_thread: InThread,
        ids: Ids,
        site: Site,
    ) -> None:
        """Keep what is given; `start` makes the folders."""
        self.folder, self._containers, self._locks, self._blobs = folder, containers, locks, blobs
        self._in_thread, self._ids, self._site = in_thread, ids, site
        self._flights: Flights[Lock] = Flights()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._background: set[asyncio.Task[None]] = set()
        #: Who lives in which environment, attempts by their names; those are never taken away.
        self._held: dict[object, str] = {}
        self._lock = threading.Lock()
        self._builders = 0
        #: Something was built since the disk was looked at.
        self._grew = True

    def start(self) -> None:
        """Make the folders, and clear what builders of an earlier life left half made."""
        shutil.rmtree(self.folder / "building", ignore_errors=True)
        for name in ("envs", "building", "cache/uv", "cache/npm"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for path in (self.folder, self.folder / "envs", self.folder / "building"):
            path.chmod(0o755)  # builders and jobs, who are nobody, come through
        for path in (self.folder / "cache", *(self.folder / "cache").iterdir()):
            self._give(path)
        self._containers.remove_builders()

    async def ensure(self, order: AttemptOrder, deps: Dependencies, image_id: str, tell: Tell) -> Environment:
        """Return the environment of a job, made first where this node has none; raise `DependenciesError`."""
        digests = {file.path: file.digest for file in order.spec.inputs}
        key = recipes.declaration_key(deps, digests, order.spec.image)
        deadline = time.monotonic() + order.spec.prepare_timeout.total_seconds()
        lock = await self._in_thread.patiently(lambda: self._locks.find(order.ref.job, key))
        while True:
            found = "" if lock is None else recipes.environment_key(lock, image_id)
            if lock is not None and await self._in_thread(partial(self.hold, order.ref, found)):
                break
            work = _Work(order, deps, key, image_id, lock, deadline)
            made = await self._flights.join(f"{key}/{image_id}/{found}", partial(self._make, work), tell)
            lock = await self._in_thread.patiently(partial(self._locks.keep, order.ref.job, key, made))
        place = recipes.NODE_MODULES if deps.kind == "node" else recipes.ENVIRONMENT
        inside = self.folder / "envs" / found
        return Environment(found, inside / "node_modules" if deps.kind == "node" else inside, place)

    def hold(self, ref: object, key: str) -> bool:
        """Say whether an environment is there; it stays until whoever asks lets go of it."""
        with self._lock:
            if not self._use(key):
                return False
            self._held[ref] = key
            return True

    def release(self, ref: object) -> None:
        """Let go of what was held."""
        with self._lock:
            self._held.pop(ref, None)

    def _use(self, key: str) -> bool:
        """Say whether an environment is there, and note that it was asked for."""
        inside = self.folder / "envs" / key
        # Not the folder alone: an engine makes one where it is told to mount what is not there.
        if not ((inside / "pyvenv.cfg").is_file() or (inside / "node_modules").is_dir()):
            return False
        (self.folder / "envs" / f"{key}.used").touch()
        return True

    def evict(self) -> list[str]:
        """Take away what has not been used for longest until the low mark is reached, if the high one was passed.

        The caches go first: what was installed from them stays, and only what is new costs another download.
        """
        if not self._grew:
            return []
        self._grew = False
        gone: list[str] = []
        used = artifacts.disk_usage(self.folder, links_once=True)
        if used <= self._site.cache_high_bytes:
            return gone
        takes: list[Callable[[], str | None]] = [self._take_caches]
        takes += [partial(self._take, key) for key in self._by_use()]
        for take in takes:
            if (name := take()) is not None:
                gone.append(name)
                used = artifacts.disk_usage(self.folder, links_once=True)
            if used <= self._site.cache_low_bytes:
                break
        log.info("evicted %s; %d bytes are used", ", ".join(gone) or "nothing", used)
        return gone

    def _by_use(self) -> list[str]:
        """Return the environments there are, longest unused first."""
        used = ((path.stat().st_mtime_ns, path.stem) for path in (self.folder / "envs").glob("*.used"))
        return [key for _, key in sorted(used)]

    def _take(self, key: str) -> str | None:
        with self._lock:
            if key in self._held.values():
                return None
            aside = self.folder / "building" / f"evicted-{key}"
            with suppress(OSError):
                (self.folder / "envs" / key).rename(aside)
            (self.folder / "envs" / f"{key}.used").unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        return key

    def _take_caches(self) -> str | None:
        with self._lock:
            if self._builders:
                return None
            for name in ("uv", "npm"):
                cache = self.folder / "cache" / name
                shutil.rmtree(cache, ignore_errors=True)
                cache.mkdir(exist_ok=True)
                self._give(cache)
        return "caches"

    # -- making one ---------------------------------------------------------------------------------------------------

    async def _make(self, work: "_Work", tell: Tell) -> Lock:
        """Resolve where there is no lock yet, build, and put the environment where it is kept."""
        async with self._at_once:
            loop, given_up = asyncio.get_running_loop(), threading.Event()

            def tell_loop(line: str) -> None:
                loop.call_soon_threadsafe(tell, line)

            tell(f"installing what the script needs ({work.deps.source})")
            workshop = self.folder / "building" / secrets.token_hex(8)
            try:
                lock = await self._in_thread.patiently(lambda: self._build(work, workshop, tell_loop, given_up.is_set))
                stands = await self._in_thread.patiently(lambda: self._locks.keep(work.order.ref.job, work.key, lock))
                if stands == lock:
                    await self._in_thread(lambda: self._put(workshop, recipes.environment_key(lock, work.image_id)))
                    self._in_background(self._compile(work, recipes.environment_key(lock, work.image_id)))
                return stands
            finally:
                given_up.set()
                await asyncio.shield(self._in_thread(lambda: shutil.rmtree(workshop, ignore_errors=True)))

    def _build(self, work: "_Work", workshop: Path, tell: Callable[[str], None], given_up: Callable[[], bool]) -> Lock:
        """Build in a workshop; where that fails, or nobody wants it any more, nothing of the workshop stays.

        Whoever waits may be gone long before this thread is, so it clears up itself.
        """
        lock: Lock | None = None
        with self._lock:
            self._builders += 1
        try:
            lock = self._try(work, workshop, tell, given_up)
            return lock
        finally:
            with self._lock:
                self._builders -= 1
            if lock is None or given_up():
                shutil.rmtree(workshop, ignore_errors=True)

    def _try(self, work: "_Work", workshop: Path, tell: Callable[[str], None], given_up: Callable[[], bool]) -> Lock:
        """Try with wheels alone, then with code of the packages, shut away; in the job's image or one with tools."""
        recipe = recipes.recipe(work.deps)
        tools = self._containers.find_image(self._site.builder_image(work.order.spec.image))
        used = partial(artifacts.disk_usage, workshop)
        bounds = Bounds(given_up, work.deadline, self._site.build_disk_bytes, used)

        def attempt(image: str, *, sources: bool, anyway: bool) -> Built:
            if given_up():
                raise DependenciesError("nobody wants it any more")
            shutil.rmtree(workshop, ignore_errors=True)
            self._furnish(workshop, recipe, work)
            order = self._order(workshop, recipe, image, sources=sources, anyway=anyway)
            return self._containers.run_builder(order, bounds, tell)

        for sources in (False, True):
            built = attempt(work.image_id, sources=sources, anyway=tools is None)
            if built.exit_code == recipes.EXIT_NEEDS_TOOLS and tools is not None:
                built = attempt(tools, sources=sources, anyway=True)
            if built.stopped:
                raise DependenciesError(f"installing what the script needs was stopped: {built.stopped}")
            if built.exit_code == 0:
                text = (workshop / recipe.lock_name).read_text(encoding="utf-8")
                return work.lock or Lock(recipe.format, text)
            if sources or not recipes.needs_sources(built.exit_code, built.said):
                break
        raise DependenciesError(f"what the script needs cannot be had: {recipes.last_words(built.said)}")

    def _furnish(self, workshop: Path, recipe: recipes.Recipe, work: "_Work") -> None:
        """Lay out what a builder works from."""
        inside = workshop / "input"
        inside.mkdir(parents=True)
        for name, text in recipe.files.items():
            (inside / name).write_text(text, encoding="utf-8")
        wanted = {work.deps.lock, *work.deps.files} - {None}
        files = [file for file in work.order.spec.inputs if file.path in wanted]
        artifacts.lay_out(inside, files, self._blobs, self._ids)
        if work.lock is not None:
            (workshop / recipe.lock_name).write_text(work.lock.text, encoding="utf-8")
        self._site.leave_secrets(workshop)
        for path in (workshop, *workshop.rglob("*")):
            self._give(path)

    def _order(
        self, workshop: Path, recipe: recipes.Recipe, image: str, *, sources: bool, anyway: bool
    ) -> BuilderOrder:
        place = f"{recipes.STORE}/building/{workshop.name}"
        # Wheels alone run no code: such a build sees the store, and its files are linked, not copied.
        mounts = {workshop: place} if sources else {self.folder: recipes.STORE}
        cache = f"{place}/cache" if sources else f"{recipes.STORE}/cache"
        words = {
            **recipe.environment,
            "WORK": place,
            "FORMAT": recipe.format,
            "SOURCES": "yes" if sources else "no",
            "ANY": "yes" if anyway else "no",
            "HOME": place,
            "TMPDIR": "/tmp",  # noqa: S108  # the container's own
            "UV_CACHE_DIR": f"{cache}/uv",
            "npm_config_cache": f"{cache}/npm",
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
            **self._site.environment(place),
        }
        return BuilderOrder(
            name=workshop.name,
            image=image,
            script=recipe.script,
            environment=words,
            mounts={**mounts, **self._site.mounts()},
            writable=frozenset(mounts),
            user=f"{self._ids.uid}:{self._ids.gid}",
            network="",
            memory_bytes=self._site.build_memory_bytes,
            nano_cpus=(os.cpu_count() or 1) * 1_000_000_000,
        )

    def _put(self, workshop: Path, key: str) -> None:
        """Put a finished environment in its place; one that is there already is as good."""
        shutil.rmtree(workshop / "env" / "node_modules" / ".cache", ignore_errors=True)
        with suppress(OSError):
            (workshop / "env").rename(self.folder / "envs" / key)
        self._grew = True
        if not self._use(key):
            raise RGridError(Code.INTERNAL, f"environment {key} could not be put in its place")

    async def _compile(self, work: "_Work", key: str) -> None:
        """Have bytecode made beside the modules, so that jobs that come later start sooner, and see to the disk."""
        if work.deps.kind == "python" and self.hold(work, key):
            order, bounds = self._compile_order(work, key)
            try:
                with suppress(RGridError):
                    await self._in_thread(lambda: self._containers.run_builder(order, bounds, lambda _: None))
            finally:
                self.release(work)
        await self._in_thread(self.evict)

    def _compile_order(self, work: "_Work", key: str) -> tuple[BuilderOrder, Bounds]:
        folder = self.folder / "envs" / key
        order = BuilderOrder(
            name=f"compile-{key}",
            image=work.image_id,
            script=recipes.COMPILE,
            environment={"WORK": recipes.ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": ""},
            mounts={folder: recipes.ENVIRONMENT},
            writable=frozenset({folder}),
            user=f"{self._ids.uid}:{self._ids.gid}",
            network="none",
            memory_bytes=self._site.build_memory_bytes,
            nano_cpus=1_000_000_000,
            background=True,
        )
        deadline = time.monotonic() + work.order.spec.prepare_timeout.total_seconds()
        return order, Bounds(lambda: False, deadline, self._site.build_disk_bytes, lambda: 0)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._ids.uid, self._ids.gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What one flight is about. Any of the jobs that wait for it may stand for all."""

    order: AttemptOrder
    deps: Dependencies
    #: Name of the declaration.
    key: str
    image_id: str
    lock: Lock | None
    deadline: float
