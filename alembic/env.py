"""Where Alembic meets RGrid: a connection handed over by `rgrid.store.schema`, or a URL from the settings."""

from logging.config import fileConfig
from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, pool

from rgrid.store.engine import normalise_url
from rgrid.store.tables import metadata

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)

OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "compare_type": True,
    "compare_server_default": True,
    "transaction_per_migration": True,
}


def database_url() -> str:
    """Return the URL that was set, or the local grid's."""
    from rgrid.access import database_url as known

    return known()


def run(connection: Connection) -> None:
    """Migrate over a connection."""
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(url=normalise_url(database_url()), literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
elif (given := config.attributes.get("connection")) is not None:
    run(given)
else:
    engine = create_engine(normalise_url(database_url()), poolclass=pool.NullPool)
    with engine.connect() as connection:
        run(connection)
