"""The wheel, installed where there is no checkout: the base is light, the server brings a grid's database along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)


def run(*words: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RGRID_", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**clean, **(env or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--wheel", "--out-dir", folder, ROOT)
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture
def install(uv: str, wheel: Path, tmp_path: Path):  # noqa: ANN201
    def into_a_new_place(extra: str = "") -> Path:
        """Install the wheel with the versions of the lock, and return the folder of its commands."""
        place = tmp_path / "venv"
        run(uv, "venv", "-q", "--python", sys.executable, place)
        wanted = tmp_path / "wanted.txt"
        wanted.write_text(f"rgrid{extra} @ {wheel.as_uri()}\n")
        pins = ROOT / "requirements.lock"
        run(uv, "pip", "install", "-q", "-p", place / "bin/python", "-r", wanted, "-c", pins)
        return place / "bin"

    return into_a_new_place


def test_the_base_install_is_light(install, tmp_path: Path) -> None:  # noqa: ANN001
    commands, home = install(), {"RGRID_HOME": str(tmp_path / "home")}
    python = commands / "python"
    listed = json.loads(
        run(
            python,
            "-c",
            "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))",
        )
    )
    assert not {"ray", "docker", "sqlalchemy", "fastapi", "psycopg2-binary", "alembic"} & set(listed)
    assert len(listed) < 25, listed
    assert run(commands / "rgrid", "version", env=home, cwd=tmp_path).strip()
    assert "python3.12" in run(commands / "rgrid", "runtimes", env=home, cwd=tmp_path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RGRID_")}
    up = subprocess.run(
        [commands / "rgrid", "up"], capture_output=True, text=True, check=False, cwd=tmp_path, env={**clean, **home}
    )
    assert up.returncode == 125
    assert "error[server-not-installed]" in up.stderr
    assert "pip install 'rgrid[server]'" in up.stderr


def test_an_installed_server_migrates_a_database(install, empty_database_url: str, tmp_path: Path) -> None:  # noqa: ANN001
    rgrid = install("[server]") / "rgrid"
    env = {"RGRID_HOME": str(tmp_path / "home"), "RGRID_DATABASE_URL": empty_database_url}

    def db(*words: str) -> str:
        return run(rgrid, "db", *words, env=env, cwd=tmp_path)

    assert db("current").strip() == "no schema"
    assert "(head)" in db("upgrade")
    assert json.loads(db("current", "--json"))["revision"] == json.loads(db("history", "--json"))[0]["revision"]
    written = Path(db("revision", "-m", "nothing", "--autogenerate").strip())
    assert written.is_file()
    written.unlink()
    assert "no schema" in db("downgrade", "base")
