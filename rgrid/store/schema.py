"""The database's schema: brought up to date by Alembic under a lock, and checked before anybody relies on it."""

import hashlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, pool, text

from rgrid.errors import Code, RGridError
from rgrid.store.engine import normalise_url, translate_errors

#: Key of the advisory lock: no two processes migrate one database at once.
_LOCK = int.from_bytes(hashlib.sha256(b"rgrid migrations").digest()[:8], "big", signed=True)


def migrations() -> Path:
    """Return the folder of the migrations: the checkout's, or the one that came inside the wheel."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "alembic"
    return checkout if (checkout / "env.py").is_file() else package / "migrations"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to `revision`; waits while somebody else does."""
    with _config(url) as (config, connection):
        found = MigrationContext.configure(connection).get_current_revision()
        connection.commit()  # what was begun by looking would be Alembic's transaction, and nobody would commit it
        if found is not None and found not in _known():
            raise _newer(found)
        command.upgrade(config, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision`."""
    with _config(url) as (config, _):
        command.downgrade(config, revision)


def make_revision(url: str, message: str, *, autogenerate: bool) -> Path:
    """Write a new migration and return its file."""
    with _config(url) as (config, _):
        made = command.revision(config, message=message, autogenerate=autogenerate)
    assert made is not None
    assert not isinstance(made, list)
    return Path(made.path)


def current(url: str) -> str | None:
    """Return the revision the database is at, or None when it has none."""
    with _config(url) as (_, connection):
        return MigrationContext.configure(connection).get_current_revision()


def history() -> list[tuple[str, str]]:
    """Return revisions with their titles, newest first."""
    return [(script.revision, script.doc or "") for script in _scripts().walk_revisions()]


def head() -> str:
    """Return the revision this version of RGrid knows as its own."""
    found = _scripts().get_current_head()
    assert found is not None
    return found


def check(engine: Engine) -> None:
    """Raise `schema-unknown` unless the database is at exactly the revision this version knows."""
    with translate_errors(), engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found == head():
        return
    if found is None or found in _known():
        have = "has no schema yet" if found is None else f"is at revision {found}"
        raise RGridError(Code.SCHEMA_UNKNOWN, f"the database {have}; this version needs {head()}", found=found)
    raise _newer(found)


def _known() -> set[str]:
    return {revision for revision, _ in history()}


def _newer(found: str) -> RGridError:
    return RGridError(
        Code.SCHEMA_UNKNOWN,
        f"the database is at revision {found}, which a newer version of RGrid made; this one knows {head()}",
        hint="Install the newer version here, with `pip install --upgrade 'rgrid[server]'`.",
        found=found,
    )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(migrations()))


@contextmanager
def _config(url: str) -> Iterator[tuple[Config, Connection]]:
    """Give Alembic's configuration with a connection that holds the lock."""
    engine = create_engine(normalise_url(url), poolclass=pool.NullPool, connect_args={"connect_timeout": 5})
    config = Config(cmd_opts=Namespace(quiet=True))  # stdout is for data: Alembic would tell there what it generates
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    attributes: dict[Any, Any] = config.attributes
    try:
        with translate_errors(), engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
            attributes["connection"] = connection
            try:
                yield config, connection
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
                connection.commit()
    except CommandError as error:
        raise RGridError(Code.SCHEMA_UNKNOWN, str(error)) from error
    finally:
        engine.dispose()
