"""What comes before a container runs: its image and its files, side by side, then the container itself.

Fails only with `PreparationError`, which says what ended the attempt and why.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from rgrid.domain.job import AttemptOrder
from rgrid.domain.reasons import EndReason
from rgrid.errors import Code, RGridError
from rgrid_actors import artifacts
from rgrid_actors.artifacts import InputError
from rgrid_actors.bench import Bench
from rgrid_actors.containers.port import ImageUnavailableError
from rgrid_actors.spool import Spool


class PreparationError(Exception):
    """Preparation ended the attempt, for this reason."""

    def __init__(self, reason: EndReason, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.reason = reason


async def prepare(order: AttemptOrder, spool: Spool, bench: Bench, progress: Callable[[str], None]) -> str:
    """Return the id of a container that is ready to start; `progress` is told, on the loop, of what takes long."""
    began = time.monotonic()
    loop, containers, spec = asyncio.get_running_loop(), bench.containers, order.spec

    def tell(line: str) -> None:
        loop.call_soon_threadsafe(progress, line)

    deadline = time.monotonic() + spec.prepare_timeout.total_seconds()
    image, laid_out = await asyncio.gather(
        bench.in_thread.patiently(lambda: containers.ensure_image(spec.image, tell, deadline=deadline)),
        bench.in_thread.patiently(lambda: artifacts.lay_out(spool.workspace, spec.inputs, bench.blobs, bench.ids)),
        return_exceptions=True,
    )
    if isinstance(image, BaseException):
        raise _failed(image)
    if isinstance(laid_out, BaseException):
        raise _failed(laid_out)
    had_image, ids = time.monotonic(), bench.ids
    container = await bench.in_thread.patiently(
        lambda: containers.create(order, workspace=spool.workspace, uid=ids.uid, gid=ids.gid, image_id=image)
    )
    timings = replace(spool.progress.timings, image=had_image - began)
    await bench.in_thread(
        lambda: spool.note(container=container, image_digest=image, laid_out=laid_out, timings=timings)
    )
    return container


def _failed(error: BaseException) -> BaseException:
    match error:
        case ImageUnavailableError():
            return PreparationError(EndReason.IMAGE, str(error))
        case InputError():
            return PreparationError(EndReason.INPUT, str(error))
        case RGridError(code=Code.DISK_FULL):
            return PreparationError(EndReason.DISK, str(error))
        case _:
            return error
