"""Every example of the repository, from the command a user would type, and what `show` says of it afterwards."""

import json
from pathlib import Path

from tests.conftest import ROOT, Grid


def test_a_script_with_arguments_and_a_file(grid: Grid) -> None:
    done = grid("run", "examples/wordcount.py", "--top", "2", "examples/data/alice.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["284 words, 144 different ones, in alice.txt", "    15  the", "    12  it"]
    job = grid.json("show", "last")
    assert (job["state"], job["reason"], job["exit_code"]) == ("succeeded", "exit", 0)
    assert job["args"] == ["--top", "2", "examples/data/alice.txt"]
    [attempt] = job["attempts"]
    assert attempt["node"] == job["node"]
    assert {"image", "start", "run", "collect"} <= attempt["timings"].keys()
    assert attempt["image_digest"].startswith("sha256:")
    assert job["submitted_at"] < job["started_at"] < job["ended_at"]
    card = grid("show", "last").stdout
    assert "succeeded" in card
    assert "peak" in card


def test_a_module_a_folder_and_outputs_in_folders(grid: Grid, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--with", "examples/report/readings", "--outputs", str(out)]
    done = grid("run", *words, "examples/report/report.py")
    assert done.returncode == 0, done.stderr
    assert "2026/rome: mean" in done.stdout
    assert json.loads((out / "report/2026/rome.json").read_text())["count"] == 8
    again = tmp_path / "again"
    assert grid("download", "last", str(again), "report/2025/oslo.json").returncode == 0
    assert [p.relative_to(again).as_posix() for p in again.rglob("*.json")] == ["report/2025/oslo.json"]
    assert grid("download", "last", str(again), "nothing").returncode == 2


def test_a_node_script(grid: Grid) -> None:
    done = grid("run", "examples/primes.js", "30")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "10 primes below 30: 2 3 5 7 11 13 17 19 23 29\n",
        "by Node 20\n",
    )


def test_one_that_fails(grid: Grid) -> None:
    done = grid("run", "examples/fails.py")
    assert done.returncode == 1
    assert done.stdout == "so far so good\n"
    assert done.stderr.startswith("then not\nTraceback")
    assert done.stderr.endswith("KeyError: 'pear'\n")
    assert grid.json("show", "last")["state"] == "failed"


def test_one_that_reads_a_stdin_that_is_not_there(grid: Grid) -> None:
    assert grid("run", "examples/no_stdin.py").stdout == "0 lines on stdin\n"


def test_every_example_is_tried_here() -> None:
    tried = Path(__file__).read_text()
    for script in [*ROOT.glob("examples/*.py"), *ROOT.glob("examples/*.js")]:
        assert f"examples/{script.name}" in tried
