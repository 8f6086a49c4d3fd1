"""What may cross the border."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rgrid.wire import Submission, check_path


@pytest.mark.parametrize("path", ["a", "a/b.py", "ünï/cødé.txt", ".hidden", "a b", "..a", "a..b/c", "-x"])
def test_paths_that_can_be_laid_out(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a\nb",
        "a\0b",
        "\udcff",
        "a\\b",
        "x" * 256,
        "y/" * 600,
    ],
)
def test_paths_that_cannot(path: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        check_path(path)


@given(st.text())
def test_no_path_leaves_the_workspace(path: str) -> None:
    import posixpath

    try:
        check_path(path)
    except ValueError:
        return
    assert posixpath.normpath(posixpath.join("/workspace", path)).startswith("/workspace/")


@pytest.mark.parametrize(
    "change",
    [
        {"script": "../x.py"},
        {"env": {"1BAD": "x"}},
        {"env": {"A": "nul\0"}},
        {"args": ["nul\0"]},
        {"name": "nul\0"},
        {"image": "nul\0"},
        {"runtime": "nul\0"},
        {"args": ["\ud800"]},
        {"env": {"A": "\udce9"}},
        {"labels": {"\udce9": "x"}},
        {"timeout_seconds": -1},
        {"memory_bytes": 0},
        {"priority": 1000},
        {"surprise": 1},
        {"inputs": [{"path": "a", "digest": "zz", "size": 1}]},
    ],
)
def test_submissions_that_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Submission.model_validate({"script": "x.py", **change})
