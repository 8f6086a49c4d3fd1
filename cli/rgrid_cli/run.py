"""`run` and `submit`: a script and what follows its name goes to the grid; what it writes comes back as it happens."""

import os
import sys
import uuid
from pathlib import Path
from typing import Annotated

import typer

from rgrid.client import Client
from rgrid.domain.resources import QuantityError, parse_cpus, parse_duration, parse_memory
from rgrid.errors import EXIT_CANCELLED, Code, RGridError
from rgrid.settings import settings
from rgrid.wire import Dependencies, JobView, Submission
from rgrid_cli import output
from rgrid_cli.dependencies.detect import detect, report
from rgrid_cli.endings import exit_code_of, explain
from rgrid_cli.follow import follow, to_streams
from rgrid_cli.outputs import check_folder, fetch
from rgrid_cli.workspace import Workspace, check_script, gather

#: Everything after SCRIPT is the script's own, whatever it looks like.
PASS_THROUGH = {"allow_interspersed_args": False, "help_option_names": ["--help"]}

Script = Annotated[
    str, typer.Argument(metavar="SCRIPT", help="Script to run; its file ending chooses how.", show_default=False)
]
Args = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGS", help="Everything after SCRIPT belongs to it.", show_default=False),
]
Runtime = Annotated[str | None, typer.Option(help="What runs it; `rgrid runtimes` lists the names.")]
Image = Annotated[str | None, typer.Option(help="Run it in this image instead of the runtime's own.")]
Cpus = Annotated[str, typer.Option(help="CPUs it may use, for example 0.5 or 2.")]
Memory = Annotated[str, typer.Option(help="Memory it may use, for example 512M or 1.5GiB.")]
Disk = Annotated[str, typer.Option(help="Disk space its files may hold, for example 2G.")]
Timeout = Annotated[str, typer.Option(help="Time it may run, for example 300, 90s or 1h30m.")]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="Set a variable; K alone passes yours on.")]
EnvFile = Annotated[list[Path] | None, typer.Option(help="Set the variables in a file of K=V lines.")]
Network = Annotated[bool, typer.Option("--network", help="Give it network access; it has none otherwise.")]
Name = Annotated[str | None, typer.Option(help="Name of the job; the script's when not given.")]
Label = Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="Label to find the job by.")]
Requirements = Annotated[Path | None, typer.Option(metavar="FILE", help="Install what this requirements file says.")]
NoDeps = Annotated[bool, typer.Option("--no-deps", help="Install nothing, whatever the script seems to need.")]
With = Annotated[list[str] | None, typer.Option("--with", metavar="PATH", help="Send this file or folder along.")]
Priority = Annotated[int, typer.Option(help="Higher goes first among your jobs.", min=-100, max=100)]
Retries = Annotated[int, typer.Option(help="How often to try again when it fails.", min=0, max=100)]
Json = Annotated[bool, typer.Option("--json", help="Print the job as JSON; what it writes goes to stderr.")]
Outputs = Annotated[Path | None, typer.Option(metavar="DIR", help="Fetch the files it leaves behind to DIR.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait; print the job's id.")]


def run(  # noqa: PLR0917  # its options
    script: Script,
    args: Args = None,
    runtime: Runtime = None,
    image: Image = None,
    cpus: Cpus = "1",
    memory: Memory = "512M",
    timeout: Timeout = "300",
    disk: Disk = "2G",
    env: Env = None,
    env_file: EnvFile = None,
    network: Network = False,
    name: Name = None,
    label: Label = None,
    with_: With = None,
    requirements: Requirements = None,
    no_deps: NoDeps = False,
    priority: Priority = 0,
    retries: Retries = 0,
    outputs: Outputs = None,
    detach: Detach = False,
    json_: Json = False,
) -> None:
    """Run a script on the grid and stream what it writes. Exits with the script's own exit code.

    Other exit codes: 124 its time limit passed, 137 out of memory, 130 cancelled, 125 the grid's fault, 2 bad input.
    Ctrl-C asks whether to cancel the job or to leave it running; a second Ctrl-C leaves it running.
    """
    if outputs is not None:
        if detach:
            raise RGridError(
                Code.OPTION_INVALID,
                "--outputs waits for the end, which --detach does not",
                hint="Leave one out, or fetch them later with `rgrid download ID`.",
            )
        check_folder(outputs)
    path = check_script(Path.cwd() / script)
    chosen, found = detect(path, runtime=runtime, requirements=requirements, wanted=not no_deps)
    also = found.all_files if found is not None else []
    workspace = gather(script, args or [], with_ or [], cwd=Path.cwd(), note=output.say, also=also)
    submission = make_submission(
        workspace,
        runtime=chosen.name,
        dependencies=found.on_wire(workspace.places) if found is not None and not found.empty else None,
        image=image,
        cpus=cpus,
        memory=memory,
        timeout=timeout,
        disk=disk,
        env=environment(env or [], env_file or []),
        network=network,
        name=name,
        labels=dict(_pair(text, "--label") for text in label or []),
        priority=priority,
        retries=retries,
    )
    report(found, output.say)
    from rgrid_cli.grid import ensure_local_grid

    ensure_local_grid(output.say)
    client = Client.from_settings(settings())
    job = send(client, submission, workspace)
    if detach:
        output.as_json(job) if json_ else output.data(job.id)
        return
    ended = follow(client, job, to_streams(stdout=sys.stderr if json_ else sys.stdout, stderr=sys.stderr))
    if ended is None:  # by a Ctrl-C
        raise typer.Exit(_left(client.job(job.id)))
    if json_:
        output.as_json(ended)
    explain(ended)
    code = exit_code_of(ended)
    if outputs is not None:
        try:
            fetch(client, ended.id, outputs)
        except RGridError as error:
            if not code:
                raise
            output.say(f"error[{error.code}]: {error.message}")  # the script's own code says more
    raise typer.Exit(code)


def submit(  # noqa: PLR0917  # its options
    script: Script,
    args: Args = None,
    runtime: Runtime = None,
    image: Image = None,
    cpus: Cpus = "1",
    memory: Memory = "512M",
    timeout: Timeout = "300",
    disk: Disk = "2G",
    env: Env = None,
    env_file: EnvFile = None,
    network: Network = False,
    name: Name = None,
    label: Label = None,
    with_: With = None,
    requirements: Requirements = None,
    no_deps: NoDeps = False,
    priority: Priority = 0,
    retries: Retries = 0,
    json_: Json = False,
) -> None:
    """Submit a script and print the job's id without waiting: `rgrid run --detach`."""
    run(
        script,
        args,
        runtime,
        image,
        cpus,
        memory,
        timeout,
        disk,
        env,
        env_file,
        network,
        name,
        label,
        with_,
        requirements,
        no_deps,
        priority,
        retries,
        detach=True,
        json_=json_,
    )


def _left(job: JobView) -> int:
    """Say what becomes of a job that is not waited for, and return the exit code that says the same."""
    if job.cancel_requested_at is not None:
        output.say(f"Job {job.id} is being cancelled. See how it ends with `rgrid show {job.id}`.")
        return EXIT_CANCELLED
    output.say(f"Job {job.id} runs on. Follow it with `rgrid logs -f {job.id}`.")
    return 0


def make_submission(
    workspace: Workspace,
    *,
    runtime: str,
    dependencies: Dependencies | None,
    image: str | None,
    cpus: str,
    memory: str,
    timeout: str,
    disk: str,
    env: dict[str, str],
    network: bool,
    name: str | None,
    labels: dict[str, str],
    priority: int,
    retries: int,
) -> Submission:
    """Put the options in the words of the API; what cannot be understood is said here, before anything is sent."""
    try:
        amounts = {
            "cpu_millis": parse_cpus(cpus),
            "memory_bytes": parse_memory(memory),
            "timeout_seconds": parse_duration(timeout).total_seconds(),
            "disk_bytes": parse_memory(disk),
        }
    except QuantityError as error:
        raise RGridError(Code.QUANTITY_INVALID, str(error)) from None
    try:
        return Submission(
            script=workspace.script,
            args=workspace.args,
            inputs=workspace.entries,
            name=name,
            runtime=runtime,
            dependencies=dependencies,
            image=image,
            env=env,
            labels=labels,
            network=network,
            priority=priority,
            max_retries=retries,
            **amounts,
        )
    except ValueError as error:
        raise RGridError(Code.SUBMISSION_INVALID, _first_line(error)) from None


def send(client: Client, submission: Submission, workspace: Workspace) -> JobView:
    """Submit; upload only what the grid says it lacks, then submit again under the same key: it is one job."""
    key = str(uuid.uuid4())
    try:
        return client.submit(submission, key)
    except RGridError as error:
        if error.code is not Code.INPUTS_MISSING:
            raise
        lacking = set(error.context.get("digests", ()))
    total = sum(s.entry.size for s in workspace.sources if s.entry.digest in lacking)
    if total > 16 * 1024**2:  # what takes a moment on any line
        output.say(f"uploading {len(lacking)} files, {total / 1024**2:.0f} MiB")
    for source in workspace.sources:
        if source.entry.digest in lacking:
            lacking.discard(source.entry.digest)
            try:
                client.upload(source.entry.digest, source.pieces)
            except RGridError as failed:
                if failed.code is not Code.DIGEST_MISMATCH:
                    raise
                raise RGridError(
                    Code.DIGEST_MISMATCH, f"{source.file} changed while it was sent", hint="Run the command again."
                ) from failed
    return client.submit(submission, key)


def environment(pairs: list[str], files: list[Path]) -> dict[str, str]:
    """Return the job's variables: files first, then `--env`, which wins."""
    found: dict[str, str] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RGridError(Code.FILE_NOT_FOUND, f"--env-file {file}: {error}") from None
        for number, line in enumerate(lines, 1):
            text = line.strip().removeprefix("export ")
            if not text or text.startswith("#"):
                continue
            name, equals, value = text.partition("=")
            if not equals:
                raise RGridError(Code.OPTION_INVALID, f"{file}, line {number}: {text!r} is not K=V")
            found[name.strip()] = _unquoted(value.strip())
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            if name not in os.environ:
                raise RGridError(Code.OPTION_INVALID, f"--env {name}: there is no such variable here to pass on")
            value = os.environ[name]
        found[name] = value
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RGridError(Code.OPTION_INVALID, f"{option} {text}: write it as K=V")
    return name, value


def _first_line(error: ValueError) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
    return str(error)
