"""`rgrid keys`: API keys, for operators."""

from enum import StrEnum
from typing import Annotated

import typer

from rgrid.client import Client
from rgrid.settings import settings
from rgrid_cli import output

app = typer.Typer(help="API keys: who may use this grid.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Role(StrEnum):
    """What a key may do."""

    USER = "user"
    ADMIN = "admin"


@app.command()
def create(
    owner: Annotated[str, typer.Argument(help="Whose jobs it submits.")],
    role: Annotated[Role, typer.Option(help="An admin sees every job and makes keys.")] = Role.USER,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    json_: Json = False,
) -> None:
    """Make a key and print it: it is shown this once."""
    made = Client.from_settings(settings()).create_key(owner, role, name)
    if json_:
        output.as_json(made)
        return
    output.say(f"A key for {made.owner} ({made.role}), id {made.id}. It is shown this once:")
    output.data(made.key or "")


@app.command("list")
def list_(json_: Json = False) -> None:
    """List all keys, newest first."""
    found = Client.from_settings(settings()).keys()
    if json_:
        output.as_json(found)
        return
    rows = [
        (k.id, k.owner, k.role, k.name or "-", output.ago(k.created_at), "revoked" if k.revoked_at else "works")
        for k in found
    ]
    output.table(("ID", "OWNER", "ROLE", "NAME", "MADE", "STATE"), rows, empty="No keys.")


@app.command()
def revoke(key: Annotated[str, typer.Argument(metavar="ID", help="The key's id.")], json_: Json = False) -> None:
    """Make a key useless, within seconds."""
    found = Client.from_settings(settings()).revoke_key(key)
    output.as_json(found) if json_ else output.say(f"Key {found.id} of {found.owner} is revoked.")
