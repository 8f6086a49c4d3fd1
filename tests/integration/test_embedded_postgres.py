"""The embedded Postgres: it comes up, it comes back, and it says no clearly."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from rgrid.errors import Code, RGridError
from rgrid.store.engine import make_engine, normalise_url, translate_errors
from rgrid_cli.local.ports import free_ports
from rgrid_cli.local.postgres import EmbeddedPostgres


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "home"


def ask(url: str, statement: str) -> object:
    engine = make_engine(url)
    try:
        with translate_errors(), engine.begin() as tx:
            done = tx.execute(text(statement))
            return done.scalar() if done.returns_rows else None
    finally:
        engine.dispose()


def test_it_comes_back_after_a_kill_with_what_was_committed(home: Path) -> None:
    server = EmbeddedPostgres(home, port=free_ports(1)[0], password="pw")
    server.start()
    ask(server.url, "CREATE TABLE t AS SELECT 7 AS n")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        pass
    server.start()
    assert ask(server.url, "SELECT n FROM t") == 7
    server.stop()
    assert server.pid is None


def test_a_server_left_behind_is_ended_first(home: Path) -> None:
    first = EmbeddedPostgres(home, port=free_ports(1)[0], password="pw")
    first.start()
    second = EmbeddedPostgres(home, port=free_ports(1)[0], password="pw")
    second.start()
    assert first.pid is None
    assert ask(second.url, "SELECT 1") == 1
    second.stop()


def test_refusals_are_told_apart(home: Path) -> None:
    server = EmbeddedPostgres(home, port=free_ports(1)[0], password="pw")
    server.start()
    try:
        for url, code in (
            (server.url.replace(":pw@", ":wrong@"), Code.DATABASE_REFUSED),
            (server.url.replace("/rgrid", "/nothing").replace("//rgrid", "//rgrid"), Code.DATABASE_REFUSED),
            (f"postgresql://u:p@127.0.0.1:{free_ports(1)[0]}/x", Code.DATABASE_UNREACHABLE),
        ):
            with pytest.raises(RGridError) as caught:
                ask(url, "SELECT 1")
            assert caught.value.code is code
            assert caught.value.__cause__ is not None
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_postgres_url_is_taken(scheme: str) -> None:
    assert normalise_url(f"{scheme}://u:p%40@h:1/d") == "postgresql+psycopg2://u:p%40@h:1/d"


@pytest.mark.parametrize("url", ["mysql://u@h/d", "nonsense", "sqlite:///x"])
def test_others_are_not(url: str) -> None:
    with pytest.raises(RGridError) as caught:
        normalise_url(url)
    assert caught.value.code is Code.SETTING_INVALID
