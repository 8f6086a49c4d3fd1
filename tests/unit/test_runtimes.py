"""Short names and what they stand for."""

import pytest

from rgrid.errors import Code, RGridError
from rgrid.runtimes import RUNTIMES, find_runtime, resolve_runtime, runtime_for


@pytest.mark.parametrize(
    ("name", "image"),
    [
        (None, "python:3.11"),
        ("python", "python:3.11"),
        ("python3.12", "python:3.12"),
        ("python:3.12", "python:3.12"),
        ("node", "node:20"),
        ("node18", "node:18"),
    ],
)
def test_names(name: str | None, image: str) -> None:
    assert resolve_runtime(name) == image


def test_an_unknown_name_gets_the_nearest_and_all() -> None:
    with pytest.raises(RGridError) as caught:
        find_runtime("pyton")
    assert caught.value.code is Code.RUNTIME_UNKNOWN
    assert "did you mean 'python'?" in caught.value.message
    assert all(runtime.name in caught.value.message for runtime in RUNTIMES)


def test_node_never_runs_python() -> None:
    assert find_runtime("node").command == ("node",)


@pytest.mark.parametrize(
    ("script", "name"), [("a.py", "python"), ("b/c.js", "node"), ("d.mjs", "node"), ("e.sh", "bash")]
)
def test_endings_choose(script: str, name: str) -> None:
    assert runtime_for(script).name == name


@pytest.mark.parametrize("script", ["Makefile", "a.xyz"])
def test_an_unknown_ending_is_not_guessed(script: str) -> None:
    with pytest.raises(RGridError) as caught:
        runtime_for(script)
    assert caught.value.code is Code.RUNTIME_UNDECIDED


def test_no_two_runtimes_share_a_name() -> None:
    names = [name for r in RUNTIMES for name in (r.name, *r.aliases)]
    assert len(names) == len(set(names))
