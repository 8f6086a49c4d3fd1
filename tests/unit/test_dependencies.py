"""What a script needs, found wherever it is declared; what is declared badly is said."""

from pathlib import Path

import pytest

from rgrid.errors import Code, RGridError
from rgrid.import_names import distribution
from rgrid_cli.dependencies.detect import detect
from rgrid_cli.dependencies.found import Found

BLOCK = """# /// script
# requires-python = ">=3.12"
# dependencies = [
#   "requests<3",
#   "rich[jupyter]; sys_platform == 'linux'",
# ]
# [[tool.uv.index]]
# url = "https://packages.example/simple"
# ///
import requests
"""


def find(folder: Path, text: str = "", runtime: str | None = None, **files: str) -> tuple[str, Found | None]:
    (folder / "s.py").write_text(text)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    chosen, found = detect(folder / "s.py", runtime=runtime)
    return chosen.name, found


def needs(folder: Path, text: str = "", **files: str) -> list[str]:
    _, found = find(folder, text, **files)
    assert found is not None
    return found.requirements


def refused(folder: Path, text: str = "", **files: str) -> str:
    with pytest.raises(RGridError) as caught:
        find(folder, text, **files)
    assert caught.value.code in {Code.DEPENDENCIES_INVALID, Code.RUNTIME_UNKNOWN, Code.FILE_NOT_FOUND}
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_block_says_packages_python_and_index(tmp_path: Path) -> None:
    runtime, found = find(tmp_path, BLOCK)
    assert found is not None
    assert found.requirements == ["requests<3", "rich[jupyter]; sys_platform == 'linux'"]
    assert found.indexes == ["https://packages.example/simple"]
    assert found.line() == "dependencies: 2 packages from PEP 723 block"
    assert runtime == "python3.14"
    assert find(tmp_path, BLOCK, runtime="python3.11")[0] == "python3.11"
    assert find(tmp_path, BLOCK.replace(">=3.12", ">=3.9"))[0] == "python"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BLOCK + BLOCK, "2 PEP 723 blocks"),
        (BLOCK.replace("# ///\n", ""), "not closed"),
        (BLOCK.replace("]\n# [[", "\n# [["), "no TOML"),
        (BLOCK.replace("requests<3", "requests<<3"), "'requests<<3' is not a requirement"),
        (BLOCK.replace(">=3.12", "new"), "not a version specifier"),
        (BLOCK.replace(">=3.12", "<3.2"), "requires Python <3.2"),
        ("# /// script\n# dependencies = 'x'\n# ///\n", "no list of strings"),
    ],
)
def test_a_block_that_makes_no_sense(tmp_path: Path, text: str, word: str) -> None:
    assert word in refused(tmp_path, text)


def test_an_empty_block_means_nothing_is_needed(tmp_path: Path) -> None:
    _, found = find(tmp_path, "# /// script\n# dependencies = []\n# ///\nimport numpy\n")
    assert found is not None
    assert found.empty


def test_a_requirements_file_is_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("-r requirements.txt\nscipy>=1 ; python_version > '3.8'\n")
    (tmp_path / "pins.txt").write_text("numpy==2.0.0\n")
    (tmp_path / "own-1.0-py3-none-any.whl").write_bytes(b"")
    text = "\ufeff# words\n-r more.txt\n--constraint=pins.txt\nnumpy \\\n    --hash=sha256:00  # why\n"
    text += "./own-1.0-py3-none-any.whl\n"
    _, found = find(tmp_path, requirements__txt=text + "-e .\n--pre\n-i https://i.example\ngit+https://g.example/x\n")
    assert found is not None
    assert [" ".join(r.split()) for r in found.requirements] == [
        "scipy>=1 ; python_version > '3.8'",
        "numpy --hash=sha256:00",
        "./own-1.0-py3-none-any.whl",
        "git+https://g.example/x",
    ]
    assert (found.constraints, found.indexes) == (["numpy==2.0.0"], ["https://i.example"])
    assert len(found.notes) == 2
    wire = found.on_wire({tmp_path / "own-1.0-py3-none-any.whl": "deep/own-1.0-py3-none-any.whl"})
    assert wire.requirements[2] == "./deep/own-1.0-py3-none-any.whl"
    assert wire.files == ["deep/own-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("numpy==\n", "requirements.txt, line 1: 'numpy==' is not a requirement"),
        ("\n\n-r none.txt\n", "none.txt"),
        ("--frobnicate\n", "--frobnicate"),
        ("./gone.whl\n", "there is no file ./gone.whl"),
    ],
)
def test_requirements_that_make_no_sense(tmp_path: Path, text: str, word: str) -> None:
    assert word in refused(tmp_path, requirements__txt=text)


def test_project_and_pins_together(tmp_path: Path) -> None:
    project = '[project]\nname = "My.App"\nrequires-python = ">=3.11"\ndependencies = ["numpy"]\n'
    _, found = find(tmp_path, pyproject__toml=project, requirements__txt="numpy==2.1.0\nmy-app==1\n")
    assert found is not None
    assert found.requirements == ["numpy", "numpy==2.1.0"]
    assert found.source == "pyproject.toml and requirements.txt"
    assert "my-app is the project itself" in found.notes[0]
    assert needs(tmp_path, pyproject__toml=project, requirements__txt="") == ["numpy"]


def test_a_lock_goes_before_what_it_was_made_from(tmp_path: Path) -> None:
    _, found = find(tmp_path, uv__lock="version = 1", pyproject__toml='[project]\nname = "x"\n')
    assert found is not None
    assert found.lock == tmp_path / "uv.lock"
    assert found.files == [tmp_path / "pyproject.toml"]
    assert found.line() == "dependencies: from uv.lock"
    (tmp_path / "pyproject.toml").unlink()
    assert "no pyproject.toml beside it" in refused(tmp_path)


def test_imports_are_read_where_nothing_is_declared(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import yaml")
    text = """
import os, json, cv2, numpy as np
import sklearn.linear_model, mine, tomllib
from google.cloud import storage
from . import nothing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pandas
try:
    import cpickle_that_nobody_knows
except ImportError:
    pass
def late():
    import dateutil.parser, nobody_knows_this
"""
    _, found = find(tmp_path, text)
    assert found is not None
    assert found.requirements == [
        "google-cloud-storage",
        "numpy",
        "opencv-python-headless",
        "python-dateutil",
        "pyyaml",
        "scikit-learn",
    ]
    assert found.notes == [
        "nothing well known provides nobody_knows_this; declare it in a PEP 723 block or requirements.txt"
    ]


def test_the_standard_library_is_that_of_the_chosen_python(tmp_path: Path) -> None:
    _, old = find(tmp_path, "import tomllib, distutils", runtime="python3.10")
    _, new = find(tmp_path, "import tomllib, distutils", runtime="python3.13")
    assert old is not None
    assert new is not None
    assert ["tomllib" in note for note in old.notes] == [True]
    assert new.requirements == ["standard-distutils"]


def test_nothing_is_read_when_nobody_wants_it(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import numpy")
    assert detect(tmp_path / "s.py", runtime=None, wanted=False)[1] is None


def test_node_has_its_own_way(tmp_path: Path) -> None:
    script = tmp_path / "s.js"
    script.write_text("")
    assert detect(script, runtime=None)[1] is None
    (tmp_path / "package.json").write_text('{"dependencies": {"is-number": "7"}}')
    (tmp_path / "package-lock.json").write_text("{}")
    _, found = detect(script, runtime=None)
    assert found is not None
    assert (found.kind, found.source) == ("node", "package.json and package-lock.json")
    (tmp_path / "package.json").write_text("{")
    with pytest.raises(RGridError):
        detect(script, runtime=None)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("cv2", "opencv-python-headless"),
        ("yaml", "pyyaml"),
        ("sklearn.linear_model", "scikit-learn"),
        ("PIL.Image", "pillow"),
        ("bs4", "beautifulsoup4"),
        ("dateutil", "python-dateutil"),
        ("attr", "attrs"),
        ("jwt", "pyjwt"),
        ("google.protobuf.message", "protobuf"),
        ("no_such_module_anywhere", None),
    ],
)
def test_modules_and_their_distributions(module: str, name: str | None) -> None:
    assert distribution(module) == name
