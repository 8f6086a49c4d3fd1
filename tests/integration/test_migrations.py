"""The schema: forth, back and forth again, without drift and without loss."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Text, inspect, text

from rgrid.errors import Code, RGridError
from rgrid.store import schema
from rgrid.store.engine import make_engine
from rgrid.store.tables import metadata

ROOT = Path(__file__).parents[2]


def test_up_down_and_up_again(empty_database_url: str) -> None:
    assert schema.current(empty_database_url) is None
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()
    schema.downgrade(empty_database_url, "base")
    engine = make_engine(empty_database_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()


def test_tables_and_migrations_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_checks_in_the_database_are_those_of_the_tables(engine: Engine) -> None:
    """Alembic does not compare CHECK constraints, so their words are compared here."""
    import re

    found = inspect(engine)
    for name, table in metadata.tables.items():
        there = {c["name"]: set(re.findall(r"'([^']+)'", c["sqltext"])) for c in found.get_check_constraints(name)}
        ours = {
            str(c.name): set(re.findall(r"'([^']+)'", str(c.sqltext)))
            for c in table.constraints
            if hasattr(c, "sqltext")
        }
        assert there == ours, name


def test_a_column_can_be_added_to_a_table_with_rows(engine: Engine) -> None:
    with engine.begin() as tx:
        tx.execute(
            text("INSERT INTO api_keys (id, owner, role, hash, created_at) VALUES ('k', 'me', 'user', '1', now())")
        )
        Operations(MigrationContext.configure(tx)).add_column(
            "api_keys", Column("colour", Text(), nullable=False, server_default="blue")
        )
        assert tx.execute(text("SELECT id, owner, colour FROM api_keys")).one() == ("k", "me", "blue")


def test_two_at_once_are_one(empty_database_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(schema.upgrade, [empty_database_url] * 3))
    assert schema.current(empty_database_url) == schema.head()


@pytest.mark.parametrize(
    ("revision", "word", "command"), [(None, "needs", "rgrid db upgrade"), ("9999", "newer", "pip install --upgrade")]
)
def test_a_schema_that_is_not_ours_is_refused(
    empty_database_url: str, revision: str | None, word: str, command: str
) -> None:
    engine = make_engine(empty_database_url)
    if revision is not None:
        with engine.begin() as tx:
            tx.execute(text("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)"))
            tx.execute(text("INSERT INTO alembic_version VALUES (:r)"), {"r": revision})
    with pytest.raises(RGridError) as caught:
        schema.check(engine)
    engine.dispose()
    assert caught.value.code is Code.SCHEMA_UNKNOWN
    assert word in caught.value.message
    assert command in caught.value.hint


def test_a_newer_schema_is_not_upgraded(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)"))
        tx.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    engine.dispose()
    with pytest.raises(RGridError) as caught:
        schema.upgrade(empty_database_url)
    assert "pip install --upgrade" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_alembic_at_the_root_takes_any_postgres_url(empty_database_url: str, scheme: str) -> None:
    url = empty_database_url.replace("postgresql", scheme, 1)
    env = {**os.environ, "RGRID_DATABASE_URL": url}
    for words, told in (
        (["upgrade", "head"], "Running upgrade"),
        (["current"], "(head)"),
        (["check"], "No new upgrade"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stdout + done.stderr


def test_a_revision_is_written_by_comparison(database_url: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "alembic", tmp_path / "alembic")
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    words = [sys.executable, "-m", "alembic", "revision", "--autogenerate", "-m", "nothing changed"]
    env = {**os.environ, "RGRID_DATABASE_URL": database_url}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [made] = (tmp_path / "alembic/versions").glob("*nothing_changed.py")
    assert "op." not in made.read_text()
