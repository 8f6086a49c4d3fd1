"""Scripts with dependencies, from the command a user would type: found, installed, locked, or refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Grid

BLOCK = '# /// script\n# dependencies = ["humanize"]\n# ///\nimport humanize\nprint(humanize.intcomma(1234567))\n'


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "script.py") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_block_is_all_it_takes(grid: Grid, script: Callable[..., str]) -> None:
    done = grid("run", script(BLOCK))
    assert (done.returncode, done.stdout) == (0, "1,234,567\n"), done.stderr
    assert done.stderr.splitlines()[0] == "dependencies: 1 package from PEP 723 block"
    job = grid.json("show", "last")
    assert job["dependencies"]["requirements"] == ["humanize"]
    assert job["attempts"][0]["timings"]["environment"] > 0
    lock = grid("show", "--lock", "last")
    assert lock.stdout.startswith("humanize==")
    assert "--hash=sha256:" in lock.stdout
    again = grid("run", script(BLOCK))
    assert again.stdout == done.stdout
    assert grid("show", "--lock", "last").stdout == lock.stdout


def test_imports_are_enough_and_no_deps_means_none(grid: Grid, script: Callable[..., str]) -> None:
    path = script("import humanize\nprint(humanize.intcomma(1000))")
    done = grid("run", path)
    assert done.stdout == "1,000\n"
    assert "dependencies: 1 package from imports (humanize)" in done.stderr
    without = grid("run", "--no-deps", path)
    assert without.returncode == 1
    assert "No module named 'humanize'" in without.stderr
    assert grid("show", "--lock", "last").returncode == 2


def test_what_cannot_be_had_says_which_and_why(grid: Grid, script: Callable[..., str]) -> None:
    done = grid("run", script('# /// script\n# dependencies = ["no-such-dist-xyzzy"]\n# ///\n'))
    assert done.returncode == 125
    assert "rgrid: dependencies: " in done.stderr
    assert "no-such-dist-xyzzy was not found in the package registry" in done.stderr
    shown = grid.json("show", "last")
    assert (shown["state"], shown["reason"], len(shown["attempts"])) == ("failed", "dependencies", 1)


@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        ([], "# /// script\n# dependencies = [\n# ///\n", "dependencies-invalid"),
        ([], BLOCK + BLOCK, "dependencies-invalid"),
        (["--requirements", "/no/such.txt"], "print()", "file-not-found"),
        (
            [],
            BLOCK.replace("# ///\nimport", '# [[tool.uv.index]]\n# url = "https://x.example"\n# ///\nimport'),
            "dependencies-invalid",
        ),
        (["--image", "somebody/elses:1"], "print()", "image-not-allowed"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_runs(
    grid: Grid, script: Callable[..., str], words: list[str], text: str, code: str
) -> None:
    before = len(grid.json("list", "--all"))
    done = grid("run", *words, script(text))
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(grid.json("list", "--all")) == before


def test_node_has_its_package_json(grid: Grid, script: Callable[..., str]) -> None:
    script('{"dependencies": {"is-number": "7.0.0"}}', "package.json")
    done = grid("run", script("console.log(require('is-number')(5))", "script.js"))
    assert (done.returncode, done.stdout) == (0, "true\n"), done.stderr
    assert '"node_modules/is-number"' in grid("show", "--lock", "last").stdout
