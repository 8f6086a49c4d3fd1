"""`runtimes`, `nodes`, `version`, `config`: what there is."""

import json
import tomllib
from typing import Annotated

import typer

from rgrid import __version__
from rgrid.client import Client
from rgrid.domain.resources import format_cpus, format_memory
from rgrid.errors import Code, RGridError
from rgrid.home import write_private
from rgrid.runtimes import DEFAULT, RUNTIMES
from rgrid.settings import CONFIG_FILE, Settings, home_folder, load_settings, settings, written
from rgrid.wire import RuntimeView
from rgrid_cli import output

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
config = typer.Typer(help="Settings kept in RGRID_HOME; the environment wins over them.", invoke_without_command=True)


def runtimes(json_: Json = False) -> None:
    """List the short names of what can run a script."""
    found = [
        RuntimeView(name=r.name, image=r.image, endings=list(r.endings), default=r.name == DEFAULT) for r in RUNTIMES
    ]
    if json_:
        output.as_json(found)
        return
    rows = [(r.name, r.image, " ".join(r.endings), "when none is given" if r.default else "") for r in found]
    output.table(("NAME", "IMAGE", "FILES", ""), rows, empty="None.")


def nodes(json_: Json = False) -> None:
    """List the machines of the grid and what runs on them."""
    found = Client.from_settings(settings()).nodes()
    if json_:
        output.as_json(found)
        return
    rows = [
        (
            n.name,
            f"{n.state} ({n.unready})" if n.unready else n.state,
            str(n.jobs),
            f"{format_cpus(n.cpu_millis_used)}/{format_cpus(n.cpu_millis)}",
            f"{format_memory(n.memory_bytes_used)}/{format_memory(n.memory_bytes)}",
            n.engine or "-",
            str(n.pid or "-"),
        )
        for n in found
    ]
    output.table(("NODE", "STATE", "JOBS", "CPUS", "MEMORY", "DOCKER", "PID"), rows, empty="No nodes yet.")


def version(json_: Json = False) -> None:
    """Print the version of this command."""
    output.as_json({"version": __version__}) if json_ else output.data(__version__)


def shown(chosen: Settings) -> dict[str, str | None]:
    """Return every setting as it may be shown and typed back: secrets masked."""
    return {name: written(name, getattr(chosen, name)) for name in Settings.model_fields}


@config.callback()
def config_show(context: typer.Context, json_: Json = False) -> None:
    """Show every setting as it is in effect."""
    if context.invoked_subcommand is not None:
        return
    values = shown(settings())
    if json_:
        output.as_json(values)
        return
    output.table(("SETTING", "VALUE"), [(k, v if v is not None else "-") for k, v in values.items()], empty="None.")


@config.command("set")
def config_set(
    name: Annotated[str, typer.Argument(help="For example api-url.")],
    value: Annotated[str, typer.Argument()],
    json_: Json = False,
) -> None:
    """Keep a setting in RGRID_HOME/config.toml."""
    _change(name, value)
    if json_:
        output.as_json(shown(load_settings()))


@config.command("unset")
def config_unset(name: Annotated[str, typer.Argument(help="For example api-url.")], json_: Json = False) -> None:
    """Forget a setting that was kept."""
    _change(name, None)
    if json_:
        output.as_json(shown(load_settings()))


def _change(name: str, value: str | None) -> None:
    key = name.lower().removeprefix("rgrid_").replace("-", "_")
    if key not in Settings.model_fields or key == "home":
        known = ", ".join(n.replace("_", "-") for n in Settings.model_fields if n != "home")
        raise RGridError(Code.SETTING_INVALID, f"there is no setting {name!r} to keep; there are: {known}")
    if value is not None:
        load_settings(**{key: value})
    path = home_folder() / CONFIG_FILE
    try:
        kept = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RGridError(
            Code.SETTING_INVALID, f"{path}: {error}", hint=f"Correct the file, or remove it: `rm {path}`."
        ) from error
    if value is None:
        kept.pop(key, None)
    else:
        kept[key] = value
    # Every value is kept as a string: the settings read them as they read the environment.
    write_private(path, "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in sorted(kept.items())))
