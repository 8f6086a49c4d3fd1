"""`rgrid db`: the database's schema, from a checkout or from an installed wheel."""

from typing import Annotated

import typer

from rgrid.access import database_url
from rgrid_cli import output

app = typer.Typer(help="The database's schema.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Revision = Annotated[str, typer.Argument(help="A revision, `head`, `base`, or steps like `-1`.")]


@app.command()
def upgrade(revision: Revision = "head", json_: Json = False) -> None:
    """Bring the database up to date."""
    from rgrid.store import schema

    schema.upgrade(database_url(), revision)
    _tell(json_)


@app.command(context_settings={"ignore_unknown_options": True})
def downgrade(revision: Revision, json_: Json = False) -> None:
    """Take the database back to a revision; `-1` is one step."""
    from rgrid.store import schema

    schema.downgrade(database_url(), revision)
    _tell(json_)


@app.command()
def current(json_: Json = False) -> None:
    """Print the revision the database is at."""
    _tell(json_)


@app.command()
def history(json_: Json = False) -> None:
    """List all revisions, newest first."""
    from rgrid.store import schema

    found = schema.history()
    if json_:
        output.as_json([{"revision": revision, "title": title} for revision, title in found])
        return
    output.table(("REVISION", "TITLE"), found, empty="None.")


@app.command()
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What it changes.")],
    autogenerate: Annotated[bool, typer.Option("--autogenerate", help="Compare the tables with the database.")] = False,
    json_: Json = False,
) -> None:
    """Write a new migration."""
    from rgrid.store import schema

    path = schema.make_revision(database_url(), message, autogenerate=autogenerate)
    output.as_json({"path": str(path)}) if json_ else output.data(str(path))


def _tell(json_: bool) -> None:
    from rgrid.store import schema

    at = schema.current(database_url())
    if json_:
        output.as_json({"revision": at, "head": schema.head()})
        return
    output.data(f"{at or 'no schema'}{' (head)' if at == schema.head() else ''}")
