"""`list`, `show`, `logs`, `cancel`, `wait`, `download`: what became of what was submitted."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from rgrid.client import Client
from rgrid.domain.lifecycle import TERMINAL, State
from rgrid.domain.reasons import WORDS, EndReason
from rgrid.domain.resources import QuantityError, format_cpus, format_memory, parse_duration
from rgrid.errors import Code, RGridError
from rgrid.settings import settings
from rgrid.wire import AttemptView, JobView, LogChunk
from rgrid_cli import output
from rgrid_cli.endings import exit_code_of, explain, hint_of
from rgrid_cli.follow import to_streams, view
from rgrid_cli.outputs import fetch

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Job = Annotated[str, typer.Argument(metavar="ID", help="A job's id, its beginning, or `last`.", show_default=False)]
Jobs = Annotated[list[str], typer.Argument(metavar="ID", help="Ids, or `last`.", show_default=False)]
PAGE = 500


def list_(  # noqa: PLR0917  # its options
    state: Annotated[list[State] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Only jobs with this label.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's jobs (operators).")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1)] = 20,
    all_: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    json_: Json = False,
) -> None:
    """List jobs, newest first."""
    client = _client()
    labels = dict(_pair(text) for text in label or [])
    found: list[JobView] = []
    before: str | None = None
    while all_ or len(found) < limit:
        want = PAGE if all_ else min(PAGE, limit - len(found))
        page = client.jobs(states=state or (), name=name, labels=labels, owner=owner, before=before, limit=want)
        found += page.jobs
        before = page.next
        if before is None:
            break
    if json_:
        output.as_json(found)
        return
    rows = [(j.id, j.name[:40], _state(j), j.node or "-", _ran(j), output.ago(j.submitted_at)) for j in found]
    output.table(
        ("ID", "NAME", "STATE", "NODE", "RAN", "SUBMITTED"),
        rows,
        empty="No such jobs." if state or name or label or owner else "No jobs yet. Try `rgrid run SCRIPT`.",
    )
    if before is not None:
        output.say(f"There are more; see them with `rgrid list --limit {limit * 5}` or `--all`.")


def show(
    job: Job,
    lock: Annotated[bool, typer.Option("--lock", help="Print exactly what its dependencies were resolved to.")] = False,
    json_: Json = False,
) -> None:
    """Show a job: where it is, why it ended, each attempt with its times and its proof."""
    client = _client()
    if lock:
        resolved = client.lock(_id(client, job))
        output.as_json(resolved) if json_ else output.data(resolved.text.rstrip("\n"))
        return
    found = client.job(_id(client, job))
    if json_:
        output.as_json(found)
        return
    _card(found)
    if found.state in TERMINAL:
        for one in client.outputs(found.id):
            _say(f"  output    {one.path} ({format_memory(one.size)})")


def logs(  # noqa: PLR0917  # its options
    job: Job,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only what it wrote to stdout.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only what it wrote to stderr.")] = False,
    attempt: Annotated[int, typer.Option(help="Which attempt; the last when not given.", min=0)] = 0,
    json_: Json = False,
) -> None:
    """Print what a job wrote: its stdout to stdout, its stderr to stderr."""
    client = _client()
    name = _id(client, job)
    found = client.job(name)
    if attempt > len(found.attempts):
        count = len(found.attempts)
        raise RGridError(Code.OPTION_INVALID, f"--attempt {attempt}: the job has had {count} attempts", hint="")
    wanted = frozenset({"stdout"} if stdout and not stderr else {"stderr"} if stderr and not stdout else ())
    if follow_:
        write = to_streams(stdout=sys.stdout, stderr=sys.stderr, only=wanted)
        view(client, found, _as_lines(wanted) if json_ else write, attempt=attempt)
        return
    if json_:
        both = {s: b"".join(client.log(name, s, attempt=attempt)) for s in ("stdout", "stderr")}
        output.as_json({stream: text.decode("utf-8", "backslashreplace") for stream, text in both.items()})
        return
    for stream, target in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if wanted and stream not in wanted:
            continue
        for piece in client.log(name, stream, attempt=attempt):
            target.buffer.write(piece)
        target.flush()


def cancel(
    job: Jobs,
    now: Annotated[bool, typer.Option("--now", help="Skip the grace: kill at once.")] = False,
    json_: Json = False,
) -> None:
    """Ask jobs to stop: SIGTERM, a grace of 10 s, SIGKILL."""
    client = _client()
    found = [client.cancel(_id(client, one), now=now) for one in job]
    if json_:
        output.as_json(found)
        return
    for one in found:
        ended = one.state in TERMINAL
        output.say(f"Job {one.id} had ended already: {one.state}." if ended else f"Job {one.id} is asked to stop.")


def wait(
    job: Jobs,
    timeout: Annotated[str | None, typer.Option(help="Give up waiting after this long, for example 90s.")] = None,
    json_: Json = False,
) -> None:
    """Wait until jobs have ended. Exits as `rgrid run` would, with the first exit code that is not 0."""
    client = _client()
    try:
        limit = None if timeout is None else parse_duration(timeout).total_seconds()
    except QuantityError as error:
        raise RGridError(Code.QUANTITY_INVALID, str(error)) from None
    deadline = None if limit is None else time.monotonic() + limit
    ended = [_await(client, _id(client, one), deadline) for one in job]
    if json_:
        output.as_json(ended if len(ended) > 1 else ended[0])
    for one in ended:
        if not json_:
            output.say(f"Job {one.id}: {_state(one)}")
        explain(one)
    raise typer.Exit(next((code for one in ended if (code := exit_code_of(one))), 0))


def download(
    job: Job,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")] = Path(),
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Only these outputs.")] = None,
    json_: Json = False,
) -> None:
    """Download the files a job left behind."""
    client = _client()
    found = fetch(client, _id(client, job), folder, paths or ())
    if json_:
        output.as_json(found)


# -- parts ------------------------------------------------------------------------------------------------------------


def _as_lines(wanted: frozenset[str]) -> Callable[[LogChunk], None]:
    """Return a way to write pieces as lines of JSON."""

    def write(chunk: LogChunk) -> None:
        if not wanted or chunk.stream in wanted:
            text = chunk.data.encode("latin-1").decode("utf-8", "backslashreplace")
            line = {"attempt": chunk.attempt, "seq": chunk.seq, "stream": chunk.stream, "text": text}
            output.data(json.dumps(line, ensure_ascii=False))
            sys.stdout.flush()

    return write


def _client() -> Client:
    return Client.from_settings(settings())


def _id(client: Client, word: str) -> str:
    """Return the id a word stands for."""
    if not word.isalnum() and word != "-":
        raise RGridError(Code.JOB_NOT_FOUND, f"there is no job {word!r}")
    if word not in {"last", "-"}:
        return word
    newest = client.jobs(owner=client.me(), limit=1).jobs  # an operator's `last` is not somebody else's job
    if not newest:
        raise RGridError(Code.JOB_NOT_FOUND, "there is no job yet", hint="Run one with `rgrid run SCRIPT`.")
    return newest[0].id


def _await(client: Client, job: str, deadline: float | None) -> JobView:
    while True:
        left = 55.0 if deadline is None else min(55.0, deadline - time.monotonic())
        found = client.job(job, wait=max(left, 0.0))
        if found.state in TERMINAL:
            return found
        if deadline is not None and time.monotonic() >= deadline:
            raise RGridError(Code.WAIT_TIMED_OUT, f"job {found.id} is still {found.state}")


def _state(job: JobView) -> str:
    if job.reason is None:
        return str(job.state)
    if job.reason is EndReason.EXIT:
        return str(job.state) if job.exit_code == 0 else f"{job.state} (exit code {job.exit_code})"
    return str(job.state) if job.reason == str(job.state) else f"{job.state} ({job.reason})"


def _ran(job: JobView) -> str:
    if job.started_at is None:
        return "-"
    return output.span(((job.ended_at or datetime.now(UTC)) - job.started_at).total_seconds())


def _say(line: str) -> None:
    output.data(output.plain(line))


def _card(job: JobView) -> None:
    say = _say
    say(f"{job.name}  {job.id}")
    say(f"  state     {_state(job)}")
    if job.reason is None and job.message:
        say(f"  waits     {job.message}")
    if job.reason is not None:
        say(f"  reason    {job.reason}: {job.message or WORDS[job.reason]}")
    if advice := hint_of(job):
        say(f"  hint      {advice}")
    say(f"  command   {' '.join([job.script, *job.args])}")
    say(f"  runtime   {job.runtime or 'image'} ({job.image})")
    if job.dependencies is not None:
        say(f"  needs     {job.dependencies.source} (what it was resolved to: `rgrid show --lock {job.id}`)")
    limits = f"{format_memory(job.memory_bytes)}, {format_cpus(job.cpu_millis)} CPU, {job.timeout_seconds:g} s"
    say(f"  limits    {limits}, network {'on' if job.network else 'off'}")
    if job.state in TERMINAL:
        say(f"  peak      {_memory(job.peak_memory_bytes)} of {format_memory(job.memory_bytes)}")
    say(f"  owner     {job.owner}")
    if job.labels:
        say(f"  labels    {', '.join(f'{k}={v}' for k, v in job.labels.items())}")
    for name, at in (("submitted", job.submitted_at), ("started", job.started_at), ("ended", job.ended_at)):
        if at is not None:
            say(f"  {name:<9} {at.astimezone():%Y-%m-%d %H:%M:%S} ({output.ago(at)})")
    for attempt in job.attempts:
        _attempt(attempt)


def _attempt(attempt: AttemptView) -> None:
    say = _say
    what = attempt.message or (WORDS[attempt.reason] if attempt.reason else attempt.state)
    say(f"  attempt {attempt.number} on {attempt.node}: {what}")
    spent = {name: seconds for name, seconds in attempt.timings.items() if seconds is not None}
    if spent:
        order = [name for name in ("image", "environment", "start", "run", "collect") if name in spent]
        say("    times   " + ", ".join(f"{name} {output.span(spent[name])}" for name in order))
    if attempt.state != "ended":
        return
    used = f"peak {_memory(attempt.peak_memory_bytes)}"
    if attempt.cpu_seconds is not None:
        used += f", {attempt.cpu_seconds:.2f} CPU-seconds"
    say(f"    used    {used}")
    if attempt.image_digest:
        say(f"    image   {attempt.image_digest}")


def _memory(size: int | None) -> str:
    return "not sampled (too short)" if size is None else format_memory(size)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RGridError(Code.OPTION_INVALID, f"--label {text}: write it as K=V")
    return name, value
