"""How a Postgres URL becomes an engine, and how Postgres's failures become errors a person can act on."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rgrid.errors import Code, RGridError

DRIVER = "postgresql+psycopg2"
#: SQLSTATE classes and words by which libpq says who refused.
_REFUSED = ("password authentication failed", "no password supplied", "does not exist", "permission denied", "pg_hba")
_DISK_FULL = "53100"
_UNDEFINED = {"42P01", "42703"}
_NOT_ALLOWED = "42501"


def normalise_url(url: str) -> str:
    """Return any `postgres://` or `postgresql[+driver]://` URL with the one driver we use."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise RGridError(
            Code.SETTING_INVALID,
            "RGRID_DATABASE_URL is not a URL",
            hint="Write it like postgresql://user:password@host:5432/name.",
        ) from None
    if parsed.drivername.split("+")[0] not in {"postgres", "postgresql"}:
        raise RGridError(
            Code.SETTING_INVALID,
            f"RGRID_DATABASE_URL names {parsed.drivername!r}; RGrid keeps its records in Postgres",
            hint="Write it like postgresql://user:password@host:5432/name.",
        )
    return parsed.set(drivername=DRIVER).render_as_string(hide_password=False)


def dsn(url: str) -> str:
    """Return the URL as libpq itself takes it."""
    return make_url(normalise_url(url)).set(drivername="postgresql").render_as_string(hide_password=False)


def make_engine(url: str, *, pool_size: int = 10, application_name: str = "rgrid") -> Engine:
    """Return an engine; it connects when it is first used, and notices connections that died in the pool."""
    return create_engine(
        normalise_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={
            "application_name": application_name,
            "connect_timeout": 5,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            # Keepalives say nothing while an answer is awaited: a host that vanished would hold us a quarter hour.
            "tcp_user_timeout": 30_000,
        },
    )


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what SQLAlchemy and psycopg2 raise into `RGridError`, and keep the cause."""
    try:
        yield
    except PoolTimeoutError as error:
        raise RGridError(Code.DATABASE_UNREACHABLE, "Postgres is too busy to answer") from error
    except (IntegrityError, DataError):
        raise  # what we wrote was wrong: a bug of ours
    except DBAPIError as error:
        raise _translated(error) from error


def _translated(error: DBAPIError) -> Exception:
    state = getattr(error.orig, "pgcode", None)
    words = str(error.orig).strip().replace("\n", " ")
    if state == _DISK_FULL:
        return RGridError(Code.DISK_FULL, "Postgres has no space left on its disk")
    if state in _UNDEFINED:
        return RGridError(Code.SCHEMA_UNKNOWN, f"the database lacks what this version needs: {words.split(' LINE')[0]}")
    if state == _NOT_ALLOWED or any(word in words for word in _REFUSED if isinstance(error, OperationalError)):
        return RGridError(Code.DATABASE_REFUSED, f"Postgres refuses: {words}")
    if error.connection_invalidated:
        return RGridError(Code.DATABASE_UNREACHABLE, "Postgres closed the connection")
    if isinstance(error, OperationalError):
        return RGridError(Code.DATABASE_UNREACHABLE, f"Postgres does not answer: {words}")
    if isinstance(error, InterfaceError | InternalError):  # in recovery, read-only after a failover, or broken
        return RGridError(Code.DATABASE_UNREACHABLE, f"Postgres cannot do it now: {words}")
    return error
