"""`rgrid db`: the database's schema, from a checkout or from an installed wheel."""

from typing import Annotated

import typer

from rgrid.access import database_url
from rgrid.errors import Code, RGridError
from rgrid_cli import output

app = typer.Typer(help="The database's schema.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Revision = Annotated[str, typer.Argument(help="A revision, `head`, `base`, or steps like `+1` or `-1`.")]
#: A scheduler that was heard so lately is at work.
WORKED_ON_SECONDS = 15.0


@app.command()
def upgrade(revision: Revision = "head", json_: Json = False) -> None:
    """Bring the database up to date."""
    from rgrid.store import schema

    schema.upgrade(database_url(), revision)
    _tell(json_)


@app.command(context_settings={"ignore_unknown_options": True})
def downgrade(
    revision: Revision,
    force: Annotated[bool, typer.Option("--force", help="Even under a grid that works on it.")] = False,
    json_: Json = False,
) -> None:
    """Take the database back to a revision; `-1` is one step. What the older schema has no place for is lost."""
    from rgrid.store import schema

    url = database_url()
    if not force and _is_worked_on(url):
        raise RGridError(
            Code.GRID_BUSY,
            "a grid works on this database; tables would be taken away under it",
            hint="Take the grid down first (with a Postgres of your own), or type `rgrid db downgrade --force`.",
        )
    schema.downgrade(url, revision)
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


def _is_worked_on(url: str) -> bool:
    from rgrid.store.engine import make_engine
    from rgrid.store.grid import scheduler_seen

    engine = make_engine(url)
    try:
        seen = scheduler_seen(engine)
    except RGridError as error:
        if error.code is not Code.SCHEMA_UNKNOWN:
            raise
        return False
    finally:
        engine.dispose()
    return seen.age_seconds is not None and seen.age_seconds < WORKED_ON_SECONDS


def _tell(json_: bool) -> None:
    from rgrid.store import schema

    at = schema.current(database_url())
    if json_:
        output.as_json({"revision": at, "head": schema.head()})
        return
    output.data(f"{at or 'no schema'}{' (head)' if at == schema.head() else ''}")
