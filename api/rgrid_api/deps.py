"""What every route works with, put together once per process, and who is asking."""

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy import Engine

from rgrid.errors import Code, RGridError
from rgrid.settings import Settings
from rgrid.store.blobs import PostgresBlobs
from rgrid.store.engine import make_engine
from rgrid.store.jobs import PostgresJobs
from rgrid.store.keys import PostgresKeys
from rgrid.store.logs import PostgresLogs
from rgrid.store.ports import BlobStore, LogStore, Principal
from rgrid.store.schema import check
from rgrid_api.changes import Changes

#: How long a key that was found good is not looked up again; a revoked one works at most so much longer.
KEY_SECONDS = 3.0
#: How long a schema that was found good is not looked at again.
SCHEMA_SECONDS = 30.0


@dataclass(slots=True)
class Parts:
    """The gateway's parts."""

    settings: Settings
    engine: Engine
    jobs: PostgresJobs
    keys: PostgresKeys
    blobs: BlobStore
    logs: LogStore
    changes: Changes
    _known: dict[str, tuple[float, Principal]] = field(default_factory=dict)
    _schema_until: float = 0.0

    def principal(self, key: str) -> Principal:
        """Return whose key this is."""
        now = time.monotonic()
        found = self._known.get(key)
        if found is not None and found[0] > now:
            return found[1]
        who = self.keys.find(key)
        if who is None:
            self._known.pop(key, None)
            raise RGridError(Code.KEY_WRONG)
        if len(self._known) > 10_000:  # noqa: PLR2004  # a bound, so that it never grows without one
            self._known.clear()
        self._known[key] = (now + KEY_SECONDS, who)
        return who

    def check_schema(self) -> None:
        """Refuse to work on a schema this version does not know."""
        if time.monotonic() >= self._schema_until:
            check(self.engine)
            self._schema_until = time.monotonic() + SCHEMA_SECONDS


def make_parts(settings: Settings, database_url: str) -> Parts:
    """Put the parts together; nothing connects yet."""
    engine = make_engine(database_url, pool_size=20, application_name="rgrid gateway")
    return Parts(
        settings=settings,
        engine=engine,
        jobs=PostgresJobs(engine),
        keys=PostgresKeys(engine),
        blobs=PostgresBlobs(engine),
        logs=PostgresLogs(engine),
        changes=Changes(database_url),
    )


def parts(request: Request) -> Parts:
    """Return the application's parts."""
    found: Parts = request.app.state.parts
    return found


Grid = Annotated[Parts, Depends(parts)]


def caller(grid: Grid, authorization: Annotated[str | None, Header()] = None) -> Principal:
    """Return who asks; every route but health wants to know."""
    grid.check_schema()
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise RGridError(Code.KEY_MISSING)
    return grid.principal(key.strip())


Caller = Annotated[Principal, Depends(caller)]


def operator(who: Caller) -> Principal:
    """Return who asks, if it is an operator."""
    if not who.admin:
        raise RGridError(Code.NOT_ALLOWED)
    return who


Operator = Annotated[Principal, Depends(operator)]
