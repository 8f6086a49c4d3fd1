"""What goes with a script, and where it lies."""

import os
from pathlib import Path

import pytest

from rgrid.errors import Code, RGridError
from rgrid_cli.workspace import Workspace, gather


def files(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def collect(
    script: str, *args: str, cwd: Path, extras: tuple[str, ...] = (), notes: list[str] | None = None
) -> Workspace:
    return gather(script, args, extras, cwd=cwd, note=(notes if notes is not None else []).append)


def paths(found: Workspace) -> list[str]:
    return [entry.path for entry in found.entries]


def failure(script: str, *args: str, cwd: Path, extras: tuple[str, ...] = ()) -> Code:
    with pytest.raises(RGridError) as caught:
        collect(script, *args, cwd=cwd, extras=extras)
    assert "\n" not in caught.value.message
    return caught.value.code


def test_root_is_the_working_directory_when_the_script_lies_in_it(tmp_path: Path) -> None:
    files(tmp_path, "sub/s.py", "data.csv")
    found = collect("sub/s.py", "data.csv", "--n", "3", cwd=tmp_path)
    assert (found.root, found.script, found.args) == (tmp_path, "sub/s.py", ["data.csv", "--n", "3"])
    assert paths(found) == ["data.csv", "sub/s.py"]


def test_root_is_the_scripts_folder_when_it_lies_elsewhere(tmp_path: Path) -> None:
    files(tmp_path, "there/s.py", "here/data.csv")
    found = collect(str(tmp_path / "there/s.py"), "data.csv", cwd=tmp_path / "here")
    assert found.script == "s.py"
    assert found.args == ["inputs/1/data.csv"]


def test_same_names_do_not_collide(tmp_path: Path) -> None:
    files(tmp_path, "w/s.py", "a/data.csv", "b/data.csv")
    found = collect("s.py", "../a/data.csv", str(tmp_path / "b/data.csv"), "../a/data.csv", cwd=tmp_path / "w")
    assert found.args == ["inputs/1/data.csv", "inputs/2/data.csv", "inputs/1/data.csv"]
    assert paths(found) == ["inputs/1/data.csv", "inputs/2/data.csv", "s.py"]


def test_what_comes_from_outside_takes_no_ones_place(tmp_path: Path) -> None:
    files(tmp_path, "w/s.py", "w/inputs/1/x.txt")
    files(tmp_path, "x.txt", text="another")
    for args in (("inputs/1/x.txt", "../x.txt"), ("../x.txt", "inputs/1/x.txt")):
        found = collect("s.py", *args, cwd=tmp_path / "w")
        assert sorted(found.args) == ["inputs/1/x.txt", "inputs/2/x.txt"]
        assert paths(found) == ["inputs/1/x.txt", "inputs/2/x.txt", "s.py"]


def test_a_link_that_leads_to_itself_is_an_error_with_a_name(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "d/x")
    (tmp_path / "d/loop").symlink_to("loop")
    assert failure("s.py", cwd=tmp_path, extras=("d",)) in {Code.FILE_UNREADABLE, Code.FILE_NOT_FOUND}


def test_an_options_value_may_name_a_file(tmp_path: Path) -> None:
    files(tmp_path, "w/s.py", "w/in.csv", "out.csv")
    found = collect("s.py", "--in=in.csv", f"--out={tmp_path}/out.csv", "x=in.csv", cwd=tmp_path / "w")
    assert found.args == ["--in=in.csv", "--out=inputs/1/out.csv", "x=in.csv"]


def test_folders_go_only_by_with(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "data/a.csv", "data/deep/b.csv")
    notes: list[str] = []
    found = collect("s.py", "data", cwd=tmp_path, notes=notes)
    assert paths(found) == ["s.py"]
    assert "--with data" in notes[0]
    assert paths(collect("s.py", "data", cwd=tmp_path, extras=("data",))) == ["data/a.csv", "data/deep/b.csv", "s.py"]


def test_a_folder_from_outside(tmp_path: Path) -> None:
    files(tmp_path, "w/s.py", "data/a.csv")
    found = collect("s.py", "../data", cwd=tmp_path / "w", extras=("../data",))
    assert paths(found) == ["inputs/1/data/a.csv", "s.py"]
    assert found.args == ["inputs/1/data"]


def test_ignored_files_stay_here(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "d/a.txt", "d/b.log", "d/c.tmp", "d/.git/x", "d/__pycache__/y", "d/keep/e.log", "d/build/z")
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n")
    (tmp_path / "d/.rgridignore").write_text("*.tmp\n")
    (tmp_path / "d/keep/.gitignore").write_text("!e.log\n")
    found = paths(collect("s.py", cwd=tmp_path, extras=("d",)))
    assert [p for p in found if not p.endswith("ignore")] == ["d/a.txt", "d/keep/e.log", "s.py"]


def test_a_file_that_is_named_goes_even_if_ignored(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "x.log")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert "x.log" in paths(collect("s.py", "x.log", cwd=tmp_path))


def test_links_inside_are_followed_and_links_outside_refused(tmp_path: Path) -> None:
    files(tmp_path, "w/s.py", "w/d/real.txt", "secret.txt")
    (tmp_path / "w/d/link.txt").symlink_to("real.txt")
    assert "d/link.txt" in paths(collect("s.py", cwd=tmp_path / "w", extras=("d",)))
    (tmp_path / "w/d/out.txt").symlink_to(tmp_path / "secret.txt")
    assert failure("s.py", cwd=tmp_path / "w", extras=("d",)) is Code.SYMLINK_LEAVES_TREE
    assert failure("s.py", "d/out.txt", cwd=tmp_path / "w") is Code.SYMLINK_LEAVES_TREE


def test_a_link_that_goes_round_ends(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "d/a.txt")
    (tmp_path / "d/round").symlink_to(tmp_path / "d")
    assert paths(collect("s.py", cwd=tmp_path, extras=("d",))) == ["d/a.txt", "s.py"]


def test_bad_scripts(tmp_path: Path) -> None:
    files(tmp_path, "d/s.py")
    assert failure("nothing.py", cwd=tmp_path) is Code.SCRIPT_NOT_FOUND
    assert failure("d", cwd=tmp_path) is Code.SCRIPT_IS_DIRECTORY
    assert failure("d/s.py", cwd=tmp_path, extras=("none",)) is Code.FILE_NOT_FOUND


def test_bad_names(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "d/line\nbreak.txt")
    assert failure("s.py", cwd=tmp_path, extras=("d",)) is Code.PATH_INVALID
    bad = os.fsencode(tmp_path) + b"/e/\xff.txt"
    (tmp_path / "e").mkdir()
    with open(bad, "w") as file:  # noqa: PTH123  # Path takes no bytes
        file.write("x")
    assert failure("s.py", cwd=tmp_path, extras=("e",)) is Code.PATH_INVALID


def test_what_is_no_file(tmp_path: Path) -> None:
    files(tmp_path, "s.py", "d/a.txt")
    os.mkfifo(tmp_path / "d/pipe")
    assert failure("s.py", cwd=tmp_path, extras=("d",)) is Code.PATH_INVALID


def test_local_imports_go_along(tmp_path: Path) -> None:
    files(tmp_path, "pkg/__init__.py", "pkg/data.json", "pkg/__pycache__/x.pyc", "far/mod.py", "unused.py", "lazy.py")
    files(tmp_path, "pkg/inner.py", text="import lazy\nfrom . import other")
    files(tmp_path, "near.py", text="from pkg.inner import x")
    files(tmp_path, "s.py", text="import os, json\nimport near\nfrom far import mod\ndef f():\n    import numpy")
    found = paths(collect("s.py", cwd=tmp_path))
    assert found == ["far/mod.py", "lazy.py", "near.py", "pkg/__init__.py", "pkg/data.json", "pkg/inner.py", "s.py"]


def test_a_script_that_does_not_parse_is_sent_as_it_is(tmp_path: Path) -> None:
    files(tmp_path, "s.py", text="def broken(:")
    assert paths(collect("s.py", cwd=tmp_path)) == ["s.py"]


def test_node_imports_go_along(tmp_path: Path) -> None:
    files(tmp_path, "lib/index.js", "util.js", "data.json", "package.json")
    files(tmp_path, "s.mjs", text='import x from "./util.js";\nconst y = require("./lib");\nimport("./data.json");')
    assert paths(collect("s.mjs", cwd=tmp_path)) == ["data.json", "lib/index.js", "package.json", "s.mjs", "util.js"]


def test_sizes_and_digests(tmp_path: Path) -> None:
    files(tmp_path, "s.py", text="print()")
    (tmp_path / "s.py").chmod(0o755)
    [entry] = collect("s.py", cwd=tmp_path).entries
    assert entry.size == 7
    assert entry.executable
    assert len(entry.digest) == 64
