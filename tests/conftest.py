"""Real parts for every ring that may have them: one Postgres for the session, one migrated database for each test."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def until(what: Callable[[], object], seconds: float = 10.0, pause: float = 0.02) -> object:
    """Return what `what` returns once that is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """Poll until something is true."""
    return until


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Run the embedded Postgres for the whole session.

    Not in pytest's own folder: Postgres's user must come through, and each session that starts closes it to others.
    """
    from rgrid_cli.local.ports import free_ports
    from rgrid_cli.local.postgres import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="rgrid-postgres-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "home", port=free_ports(1)[0], password=secrets.token_hex(8))
        try:
            server.start()
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """Have one database migrated by Alembic itself, to make the tests' own from."""
    from rgrid.store import schema

    url = _named(postgres_url, "template_rgrid")
    _admin(postgres_url, "CREATE DATABASE template_rgrid")
    schema.upgrade(url)
    return "template_rgrid"


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """Give a test a database of its own with nothing in it."""
    name = f"test_{secrets.token_hex(6)}"
    _admin(postgres_url, f"CREATE DATABASE {name}")
    yield _named(postgres_url, name)
    _admin(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """Give a test a migrated database of its own."""
    yield from _database(postgres_url, template)


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, template: str) -> Iterator[str]:
    """Give a module a migrated database of its own, where starting what uses it takes long."""
    yield from _database(postgres_url, template)


def _database(postgres_url: str, template: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    _admin(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(postgres_url, name)
    _admin(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[object]:
    """Give a test an engine on its own database."""
    from rgrid.store.engine import make_engine

    made = make_engine(database_url)
    yield made
    made.dispose()


class Grid:
    """A real local grid in a home of its own, spoken to through the command a user would type."""

    def __init__(self, home: Path) -> None:
        self.home = home
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RGRID_", "RAY_"))}
        self.env = {**clean, "RGRID_HOME": str(home), "NO_COLOR": "1", "RGRID_IMAGES": "127.0.0.1:*"}

    def start(self, *words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start `rgrid` with these words."""
        return subprocess.Popen(
            [sys.executable, "-m", "rgrid_cli", *words],
            cwd=cwd,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *words: str, cwd: Path = ROOT, env: dict[str, str] | None = None, seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run `rgrid` with these words to its end."""
        process = self.start(*words, cwd=cwd, env=env)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"rgrid {words} did not end in {seconds} s:\n{out}\n{err}") from None
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str) -> "dict[str, object]":
        """Run a command that prints JSON, and return it."""
        import json

        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def pid(self, part: str) -> int:
        """Return the process id of a part of the grid."""
        return self.json("status")["pids"][part]


@pytest.fixture(scope="session")
def grid_in() -> type[Grid]:
    """Give a test that brings grids up and down itself the means to speak to them."""
    return Grid


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """Bring one real grid up for the whole session."""
    with tempfile.TemporaryDirectory(prefix="rgrid-e2e-") as folder:
        Path(folder).chmod(0o711)
        found = Grid(Path(folder) / "home")
        up = found("up")
        assert up.returncode == 0, up.stderr
        yield found
        down = found("down")
        assert down.returncode == 0, down.stderr


def _named(url: str, name: str) -> str:
    return f"{url.rsplit('/', 1)[0]}/{name}"


def _admin(url: str, statement: str) -> None:
    import psycopg2

    connection = psycopg2.connect(_named(url, "postgres"))
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()
