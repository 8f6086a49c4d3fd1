"""What comes before a container runs: its image and its files, side by side, then the container itself.

Fails only with `PreparationError`, which says what ended the attempt and why.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from rgrid.domain.job import AttemptOrder, JobSpec
from rgrid.domain.reasons import EndReason
from rgrid.errors import Code, RGridError
from rgrid_actors import artifacts
from rgrid_actors.artifacts import InputError, Snapshot
from rgrid_actors.bench import Bench
from rgrid_actors.containers.port import ImageUnavailableError
from rgrid_actors.environments.environments import DependenciesError, Environment
from rgrid_actors.spool import Spool


class PreparationError(Exception):
    """Preparation ended the attempt, for this reason."""

    def __init__(self, reason: EndReason, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.reason = reason


async def prepare(
    order: AttemptOrder,
    spool: Spool,
    bench: Bench,
    progress: Callable[[str], None],
    unfinished: Callable[[EndReason], None],
) -> str:
    """Return the id of a container that is ready to start.

    `progress` is told, on the loop, of what takes long; `unfinished` of the reason it would end for if time ran out.
    """
    began = time.monotonic()
    containers, spec = bench.containers, order.spec

    async def have_image_and_environment() -> tuple[str, float, Environment | None]:
        image = await _image(spec, bench, progress)
        had_image, environment = time.monotonic(), None
        if spec.dependencies is not None:
            unfinished(EndReason.DEPENDENCIES)
            environment = await bench.environments.ensure(order, spec.dependencies, image, progress)
        unfinished(EndReason.INPUT)
        return image, had_image, environment

    had, laid_out = await asyncio.gather(
        have_image_and_environment(), _lay_out(spec, spool, bench), return_exceptions=True
    )
    if isinstance(had, BaseException):
        raise _failed(had)
    if isinstance(laid_out, BaseException):
        raise _failed(laid_out)
    (image, had_image, environment), ids = had, bench.ids
    timings = replace(spool.progress.timings, image=had_image - began)
    if environment is not None:
        timings = replace(timings, environment=time.monotonic() - had_image)
    container = await bench.in_thread.patiently(
        lambda: containers.create(
            order,
            workspace=spool.workspace,
            uid=ids.uid,
            gid=ids.gid,
            image_id=image,
            environment=None if environment is None else (environment.folder, environment.place),
        )
    )
    await bench.in_thread(
        lambda: spool.note(
            container=container,
            image_digest=image,
            environment=None if environment is None else environment.key,
            laid_out=laid_out,
            timings=timings,
        )
    )
    return container


async def _image(spec: JobSpec, bench: Bench, progress: Callable[[str], None]) -> str:
    """Have the image; one that is absent is pulled once, however many attempts wait for it."""
    containers, in_thread = bench.containers, bench.in_thread
    found = await in_thread.patiently(lambda: containers.find_image(spec.image))
    if found is not None:
        return found
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + spec.prepare_timeout.total_seconds()

    async def pull(tell: Callable[[str], None]) -> str:
        def tell_loop(line: str) -> None:
            loop.call_soon_threadsafe(tell, line)

        return await in_thread.patiently(lambda: containers.pull_image(spec.image, tell_loop, deadline=deadline))

    return await bench.pulls.join(spec.image, pull, progress)


async def _lay_out(spec: JobSpec, spool: Spool, bench: Bench) -> Snapshot:
    """Lay the inputs out; the thread that does it stops when nobody wants them any more."""
    given_up = threading.Event()
    try:
        return await bench.in_thread.patiently(
            lambda: artifacts.lay_out(spool.workspace, spec.inputs, bench.blobs, bench.ids, given_up.is_set)
        )
    finally:
        given_up.set()


def _failed(error: BaseException) -> BaseException:
    match error:
        case ImageUnavailableError():
            return PreparationError(EndReason.IMAGE, str(error))
        case DependenciesError():
            return PreparationError(EndReason.DEPENDENCIES, str(error))
        case InputError():
            return PreparationError(EndReason.INPUT, str(error))
        case RGridError(code=Code.DISK_FULL):
            return PreparationError(EndReason.DISK, str(error))
        case _:
            return error
