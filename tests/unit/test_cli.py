"""The command line's form: every hint's command exists, and what follows a script is the script's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rgrid.errors import CATALOGUE, Code, RGridError
from rgrid_cli import run as running
from rgrid_cli.main import app, main

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


KNOWN = dict(commands())


def test_every_code_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == set(Code)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in Code)


@pytest.mark.parametrize("code", Code)
def test_every_hint_can_be_typed(code: Code) -> None:
    hint = CATALOGUE[code].hint
    assert not hint or hint.endswith("."), "a hint is a full sentence"
    for typed in re.findall(r"`rgrid ([^`]+)`", hint):
        words = [w for w in typed.split() if not w.startswith("-")]
        path = tuple(words[:2]) if tuple(words[:2]) in KNOWN else tuple(words[:1])
        known = {opt for p in KNOWN.get(path, ROOT).params for opt in p.opts} | {"--help"}
        for option in (w for w in typed.split() if w.startswith("--")):
            assert option in known, f"{typed}: no option {option}"
        assert path in KNOWN or not words, f"rgrid {typed} does not exist"


@pytest.mark.parametrize("path", [p for p in KNOWN if p not in {("keys",), ("db",), ("config",)}])
def test_every_command_has_help_and_json(path: tuple[str, ...]) -> None:
    assert KNOWN[path].help
    options = {opt for p in KNOWN[path].params for opt in p.opts}
    assert "--json" in options


def test_everything_after_the_script_is_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.py").touch()
    monkeypatch.chdir(tmp_path)
    seen: list[object] = []

    def stop(script: str, args: list[str], *_: object, **__: object) -> None:
        seen.append((script, args))
        raise RGridError(Code.SCRIPT_NOT_FOUND, "far enough")

    monkeypatch.setattr(running, "gather", stop)
    main(["run", "--memory", "1G", "s.py", "--foo", "-e", "1", "--", "x", "--help", "--json", "--memory", "lots"])
    assert seen == [("s.py", ["--foo", "-e", "1", "--", "x", "--help", "--json", "--memory", "lots"])]


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["run", "no-such.py"], "script-not-found", 2),
        (["run", "."], "script-is-directory", 2),
        (["run", "--memory", "lots", __file__], "quantity-invalid", 2),
        (["run", "--cpus", "0", __file__], "quantity-invalid", 2),
        (["run", "--timeout", "-1", __file__], "quantity-invalid", 2),
        (["run", "--runtime", "pyton", __file__], "runtime-unknown", 2),
        (["run", "--env", "NOT_THERE_AT_ALL", __file__], "option-invalid", 2),
        (["run", "--label", "x", __file__], "option-invalid", 2),
        (["run", "--env-file", "none", __file__], "file-not-found", 2),
        (["config", "set", "nonsense", "1"], "setting-invalid", 2),
        (["run"], "usage", 2),
        (["show"], "usage", 2),
        (["bogus"], "usage", 2),
        (["list", "--limit", "x"], "usage", 2),
        (["list", "--nonsense"], "usage", 2),
        (["keys", "create"], "usage", 2),
    ],
)
def test_bad_input_is_two_lines(
    words: list[str], code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == exit_code
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0].startswith(f"error[{code}]: ")
    assert len(lines) == 2
    assert "Traceback" not in said.err


@pytest.mark.parametrize("words", [[], ["keys"], ["db"]])
def test_a_bare_command_gets_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Usage: rgrid" in capsys.readouterr().err


def test_an_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["run", "--json", "no-such.py"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "script-not-found"


def test_our_own_fault_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def break_(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(running, "gather", break_)
    assert main(["run", __file__]) == 125
    assert "error[internal]: ZeroDivisionError: oh" in capsys.readouterr().err


def test_environment_files_and_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("# words\nA=1\nexport B='two words'\n\nC=\n")
    monkeypatch.setenv("PASSED", "on")
    assert running.environment(["A=2", "PASSED"], [file]) == {"A": "2", "B": "two words", "C": "", "PASSED": "on"}
