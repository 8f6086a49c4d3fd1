"""Jobs: submit, ask, list, wait, cancel."""

import time
from datetime import timedelta
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response

from rgrid.domain.dependencies import Dependencies
from rgrid.domain.ids import Digest
from rgrid.domain.job import InputFile, JobSpec
from rgrid.domain.lifecycle import TERMINAL, State
from rgrid.domain.resources import MIN_CPU_MILLIS, MIN_MEMORY_BYTES, Resources, format_cpus, format_memory
from rgrid.errors import Code, RGridError
from rgrid.runtimes import IMAGES, find_runtime, runtime_for
from rgrid.settings import Settings
from rgrid.wire import CancelRequest, EventView, JobPage, JobView, LockView, Submission
from rgrid_api.changes import changed
from rgrid_api.deps import Caller, Grid

router = APIRouter(prefix="/jobs", tags=["jobs"])
MAX_WAIT_SECONDS = 60.0


@router.post("", status_code=201)
def submit(
    submission: Submission,
    grid: Grid,
    who: Caller,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> JobView:
    """Record a job. 201 when it is new, 200 when the idempotency key has been here before."""
    spec = make_spec(submission, grid.settings)
    job, new = grid.jobs.submit(who, submission, spec, idempotency_key=idempotency_key)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job


@router.get("")
def page(  # noqa: PLR0917  # one argument per filter
    grid: Grid,
    who: Caller,
    state: Annotated[list[State] | None, Query()] = None,
    name: str | None = None,
    label: Annotated[list[str] | None, Query()] = None,
    owner: str | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobPage:
    """List jobs, newest first; `next` of one page is `before` of the next."""
    labels = dict(_pair(text) for text in label or [])
    return grid.jobs.page(who, states=state or (), name=name, labels=labels, owner=owner, before=before, limit=limit)


@router.get("/counts")
def counts(grid: Grid, who: Caller) -> dict[State, int]:
    """Count live jobs by their state."""
    return grid.jobs.counts(who)


@router.get("/{job}")
async def get(
    job: str, grid: Grid, who: Caller, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0.0
) -> JobView:
    """Show a job; with `wait`, once it has ended or that many seconds have passed."""
    deadline = time.monotonic() + wait
    found = await to_thread.run_sync(grid.jobs.get, who, job)
    if wait == 0 or found.state in TERMINAL:
        return found
    with grid.changes.of(found.id) as event:
        while True:  # looked at once more after subscribing: it may have ended in between
            found = await to_thread.run_sync(grid.jobs.get, who, found.id)
            left = deadline - time.monotonic()
            if found.state in TERMINAL or left <= 0:
                return found
            await changed(event, left)


@router.post("/{job}/cancel")
def cancel(job: str, grid: Grid, who: Caller, wish: CancelRequest | None = None) -> JobView:
    """Ask for the end of a job. One that has ended stays as it is."""
    return grid.jobs.cancel(who, job, now=wish.now if wish else False)


@router.get("/{job}/lock")
def lock(job: str, grid: Grid, who: Caller) -> LockView:
    """Return what the job's dependencies were resolved to; every attempt runs with it."""
    found = grid.jobs.lock(who, job)
    if found is None:
        raise RGridError(Code.LOCK_NOT_FOUND, f"job {job} has no lock: it needs nothing, or was not prepared yet")
    return LockView(format=found.format, text=found.text)


@router.get("/{job}/events")
def events(job: str, grid: Grid, who: Caller) -> list[EventView]:
    """Return what happened to a job, oldest first."""
    return grid.jobs.events(who, job)


def make_spec(submission: Submission, settings: Settings) -> JobSpec:
    """Resolve runtime and command, and hold the wishes against the operator's ceilings."""
    _check_limits(submission, settings)
    _check_files(submission, settings)
    named = submission.runtime
    runtime = find_runtime(named) if named is not None else runtime_for(submission.script)
    if submission.image is not None and submission.image not in IMAGES and not settings.allows_image(submission.image):
        raise RGridError(
            Code.IMAGE_NOT_ALLOWED, f"the image {submission.image!r} is neither a runtime's nor allowed (RGRID_IMAGES)"
        )
    return JobSpec(
        command=(*runtime.command, _as_argument(submission.script), *submission.args),
        image=submission.image or runtime.image,
        runtime=None if submission.image else runtime.name,
        script=submission.script,
        args=tuple(submission.args),
        env=submission.env,
        inputs=tuple(InputFile(f.path, Digest(f.digest), f.size, f.executable) for f in submission.inputs),
        resources=Resources(submission.cpu_millis, submission.memory_bytes),
        timeout=timedelta(seconds=submission.timeout_seconds),
        dependencies=_dependencies(submission, settings),
        network=submission.network,
        disk_bytes=submission.disk_bytes,
        max_retries=submission.max_retries,
    )


def _as_argument(script: str) -> str:
    """Return the script's path so that no interpreter takes it for an option."""
    return f"./{script}" if script.startswith("-") else script


def _dependencies(submission: Submission, settings: Settings) -> Dependencies | None:
    found = submission.dependencies
    if found is None:
        return None
    paths = {file.path for file in submission.inputs}
    if lacking := [path for path in (found.lock, *found.files) if path is not None and path not in paths]:
        raise RGridError(Code.SUBMISSION_INVALID, f"{lacking[0]!r} of the dependencies is not among the inputs")
    if found.kind == "node" and not any(path.rsplit("/", 1)[-1] == "package.json" for path in found.files):
        raise RGridError(
            Code.DEPENDENCIES_INVALID, "dependencies of Node are declared in a package.json; there is none"
        )
    for url in found.indexes:
        if not settings.allows_index(url):
            raise RGridError(
                Code.DEPENDENCIES_INVALID,
                f"the index {url} is not one that this grid's operator allows (RGRID_INDEXES)",
            )
    return Dependencies(
        kind=found.kind,
        source=found.source,
        requirements=tuple(found.requirements),
        constraints=tuple(found.constraints),
        indexes=tuple(found.indexes),
        lock=found.lock,
        files=tuple(found.files),
    )


def _check_limits(submission: Submission, settings: Settings) -> None:
    asked = (
        ("of memory", submission.memory_bytes, settings.max_memory, format_memory, "RGRID_MAX_MEMORY"),
        ("CPUs", submission.cpu_millis, settings.max_cpus, format_cpus, "RGRID_MAX_CPUS"),
        ("of disk", submission.disk_bytes, settings.max_disk, format_memory, "RGRID_MAX_DISK"),
    )
    for what, wish, ceiling, words, setting in asked:
        if wish > ceiling:
            raise RGridError(
                Code.LIMIT_EXCEEDED,
                f"{words(wish)} {what} asked for; at most {words(ceiling)} is allowed ({setting})",
            )
    if submission.memory_bytes < MIN_MEMORY_BYTES or submission.cpu_millis < MIN_CPU_MILLIS:
        raise RGridError(Code.QUANTITY_INVALID, "a container needs at least 6M of memory and 0.01 CPUs")
    longest = settings.max_timeout.total_seconds()
    if submission.timeout_seconds > longest:
        raise RGridError(
            Code.LIMIT_EXCEEDED,
            f"a time limit of {submission.timeout_seconds:g} s asked for; at most {longest:g} s is allowed"
            " (RGRID_MAX_TIMEOUT)",
        )


def _check_files(submission: Submission, settings: Settings) -> None:
    paths = {file.path for file in submission.inputs}
    if len(paths) != len(submission.inputs):
        raise RGridError(Code.SUBMISSION_INVALID, "two inputs have the same path")
    if submission.script not in paths:
        raise RGridError(Code.SUBMISSION_INVALID, f"the script {submission.script!r} is not among the inputs")
    if len(paths) > settings.max_inputs:
        raise RGridError(
            Code.LIMIT_EXCEEDED, f"{len(paths)} inputs; at most {settings.max_inputs} are allowed (RGRID_MAX_INPUTS)"
        )
    total = sum(file.size for file in submission.inputs)
    if total > submission.disk_bytes:
        raise RGridError(
            Code.INPUT_TOO_LARGE,
            f"the inputs hold {format_memory(total)}; the job's disk limit is {format_memory(submission.disk_bytes)}",
            hint="Leave files out by lines in .rgridignore, or give the job more with `rgrid run --disk 8G SCRIPT`.",
        )
    for file in submission.inputs:
        if file.size > settings.max_input_bytes:
            raise RGridError(
                Code.INPUT_TOO_LARGE,
                f"{file.path} has {format_memory(file.size)}; {format_memory(settings.max_input_bytes)} is allowed",
            )
        parent = file.path
        while "/" in parent:
            parent = parent.rsplit("/", 1)[0]
            if parent in paths:
                raise RGridError(Code.SUBMISSION_INVALID, f"{parent!r} is both a file and a folder")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RGridError(Code.OPTION_INVALID, f"{text!r} is not a label; write KEY=VALUE")
    return key, value
