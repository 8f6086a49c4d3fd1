"""How jobs end: each reason with its proof, its exit code and its words."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rgrid.domain.resources import MIB
from tests.conftest import Grid


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def attempt(grid: Grid) -> dict[str, object]:
    return grid.json("show", "last")["attempts"][-1]


def test_out_of_memory_shows_limit_and_peak(grid: Grid, script: Callable[[str], str]) -> None:
    text = "b = bytearray(1024**3)\nfor i in range(0, len(b), 4096): b[i] = 1"
    done = grid("run", script(text))
    assert done.returncode == 137
    assert "rgrid: oom: out of memory: limit 512 MiB, peak 512 MiB" in done.stderr
    job = grid.json("show", "last")
    assert (job["state"], job["reason"], job["peak_memory_bytes"]) == ("failed", "oom", 512 * MIB)
    assert attempt(grid)["proof"]["oom_events"] + attempt(grid)["proof"]["engine_oom_killed"] >= 1


def test_exit_code_137_is_not_out_of_memory(grid: Grid, script: Callable[[str], str]) -> None:
    done = grid("run", script("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == 137
    assert grid.json("show", "last")["reason"] == "signal"


def test_a_time_limit_is_kept_and_the_log_with_it(grid: Grid, script: Callable[[str], str]) -> None:
    done = grid("run", "--timeout", "3", script("import time\nwhile True:\n    print('tick')\n    time.sleep(0.5)"))
    assert done.returncode == 124
    assert done.stdout.count("tick") >= 4
    assert grid.json("show", "last")["reason"] == "timeout"
    assert 3 <= attempt(grid)["proof"]["elapsed_seconds"] < 3 + 10, "the limit and the grace"
    assert grid("logs", "last").stdout == done.stdout


def test_a_script_that_will_not_stop_is_killed_after_the_grace(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import signal, time\nsignal.signal(15, lambda *_: print('no'))\nprint('up')\nwhile True: time.sleep(0.1)"
    done = grid("run", "--timeout", "1", script(text))
    assert (done.returncode, done.stdout) == (124, "up\nno\n")
    assert 11 <= attempt(grid)["proof"]["elapsed_seconds"] < 20


def test_what_no_node_can_hold_says_so(grid: Grid, script: Callable[[str], str]) -> None:
    following = grid.start("run", "--name", "large", "--cpus", "60", script("print()"))
    assert following.stderr is not None
    assert (
        following.stderr.readline()
        == "rgrid: waiting for a node: no node is large enough for the 60 CPUs and 512 MiB it asks for\n"
    )
    assert "waits     no node is large enough" in grid("show", "last").stdout
    grid("cancel", "last")
    following.communicate(timeout=30)
    assert following.returncode == 130


def test_what_cannot_be_kept_is_said(grid: Grid, script: Callable[[str], str], tmp_path: Path) -> None:
    text = "import os\nopen('odd\\nname', 'w').close()\nos.symlink('/etc/passwd', 'link')\nopen('good', 'w').close()"
    done = grid("run", "--outputs", str(tmp_path / "out"), script(text))
    assert done.returncode == 0
    assert "2 outputs were left out" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good"]


def test_a_follower_chooses_stream_and_attempt(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import os, sys\nn = os.environ['RGRID_ATTEMPT']\nprint('out', n)\nprint('err', n, file=sys.stderr)\n"
    grid("run", "--retries", "1", script(text + "sys.exit(n == '1')"))
    assert grid("logs", "-f", "--stderr", "last").stderr == "err 1\nerr 2\n"
    assert grid("logs", "-f", "--attempt", "1", "--stdout", "last").stdout == "out 1\n"
    told = [json.loads(line) for line in grid("logs", "-f", "--json", "--stdout", "last").stdout.splitlines()]
    assert [(line["attempt"], line["text"]) for line in told] == [(1, "out 1\n"), (2, "out 2\n")]
    assert grid("logs", "--attempt", "9", "last").returncode == 2


def test_a_viewer_that_is_interrupted_leaves_the_job_alone(grid: Grid, script: Callable[[str], str]) -> None:
    job = grid("submit", script("import time\nprint('up', flush=True)\ntime.sleep(60)")).stdout.strip()
    viewer = grid.start("logs", "-f", job)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "up\n"
    viewer.send_signal(signal.SIGINT)
    _, err = viewer.communicate(timeout=20)
    assert viewer.returncode == 130
    assert "Traceback" not in err
    assert grid.json("show", job)["state"] == "running"
    grid("cancel", "--now", job)


def test_its_own_exit_code(grid: Grid, script: Callable[[str], str]) -> None:
    for code in (0, 3, 124, 255):
        assert grid("run", script(f"raise SystemExit({code})")).returncode == code
        assert grid.json("show", "last")["exit_code"] == code


def test_cancel_with_and_without_grace(
    grid: Grid, script: Callable[[str], str], eventually: Callable[..., object]
) -> None:
    text = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(5))\nprint('up')\ntime.sleep(60)"
    path = script(text)
    for words in ([], ["--now"]):
        job = grid("submit", path).stdout.strip()
        eventually(lambda job=job: "up" in grid("logs", job).stdout, 30, 0.2)
        assert grid("cancel", *words, job).returncode == 0
        assert grid("wait", "--timeout", "30", job).returncode == 130
        shown = grid.json("show", job)
        assert (shown["state"], shown["reason"]) == ("cancelled", "cancelled")
        assert shown["attempts"][0]["exit_code"] == (137 if words else 5)
    assert grid("cancel", job).returncode == 0, "asking for what has ended is no error"


def test_a_cancel_while_waiting(grid: Grid, script: Callable[[str], str]) -> None:
    job = grid("submit", "--cpus", "60", script("print()")).stdout.strip()
    assert grid.json("show", job)["state"] == "queued"
    grid("cancel", job)
    assert grid("wait", "--timeout", "20", job).returncode == 130


def test_an_image_that_is_not_there(grid: Grid, script: Callable[[str], str]) -> None:
    done = grid("run", "--image", "127.0.0.1:9/no/such:image", script("print()"))
    assert done.returncode == 125
    assert "rgrid: image: image '127.0.0.1:9/no/such:image'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_retry_is_another_attempt(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import os, sys\nn = int(os.environ['RGRID_ATTEMPT'])\nprint('try', n)\nsys.exit(n < 3)"
    done = grid("run", "--retries", "5", script(text))
    assert (done.returncode, done.stdout) == (0, "try 1\ntry 2\ntry 3\n")
    assert [a["exit_code"] for a in grid.json("show", "last")["attempts"]] == [1, 1, 0]


def test_a_hundred_thousand_lines(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import sys\nfor i in range(100_000):\n    print('line', i)\nprint('apart', file=sys.stderr)"
    done = grid("run", script(text))
    assert done.stdout == "".join(f"line {i}\n" for i in range(100_000))
    assert done.stderr == "apart\n"
    assert grid("logs", "last", "--stdout").stdout == done.stdout
    assert grid("logs", "-f", "last").stdout == done.stdout


def test_a_log_is_there_while_it_runs(
    grid: Grid, script: Callable[[str], str], eventually: Callable[..., object]
) -> None:
    job = grid("submit", script("import time\nprint('early')\ntime.sleep(30)")).stdout.strip()
    eventually(lambda: grid("logs", job).stdout == "early\n", 20, 0.2)
    assert grid.json("show", job)["state"] == "running"
    grid("cancel", "--now", job)


def test_too_much_on_its_disk(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import time\nwith open('big', 'wb') as f:\n    f.write(bytes(64 * 1024**2))\ntime.sleep(60)"
    done = grid("run", "--disk", "16M", script(text))
    assert done.returncode == 125
    assert "rgrid: disk: its workspace held 64 MiB; the limit is 16 MiB" in done.stderr


def test_what_follows_the_script_is_the_scripts(grid: Grid, script: Callable[[str], str]) -> None:
    words = ["--foo", "-e", "1", "--", "x", "--help", "--json", "--memory", "lots"]
    done = grid("run", script("import sys, json\nprint(json.dumps(sys.argv[1:]))"), *words)
    assert json.loads(done.stdout) == words


def test_options_reach_the_container(grid: Grid, script: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "vars").write_text("B=from file\n")
    text = "import os\nprint(os.environ['A'], os.environ['B'], os.environ['C'])"
    words = ["--env", "A=1", "--env", "C", "--env-file", str(tmp_path / "vars"), "--name", "n", "--label", "k=v"]
    done = grid("run", "--memory", "64M", "--cpus", "0.5", *words, script(text), env={"C": "passed on"})
    assert done.stdout == "1 from file passed on\n"
    job = grid.json("show", "last")
    assert (job["name"], job["labels"], job["memory_bytes"], job["cpu_millis"]) == ("n", {"k": "v"}, 64 * MIB, 500)
    assert [j["id"] for j in grid.json("list", "--label", "k=v")] == [job["id"]]


def test_json_is_all_there_is_on_stdout(grid: Grid, script: Callable[[str], str]) -> None:
    done = grid("run", "--json", script("print('words')"))
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert done.stderr == "words\n"


def test_ctrl_c_cancels_where_nobody_can_be_asked(
    grid: Grid, script: Callable[[str], str], eventually: Callable[..., object]
) -> None:
    process = grid.start("run", "--name", "interrupted", script("import time\nprint('up', flush=True)\ntime.sleep(60)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Cancelling job" in err
    assert "Traceback" not in err


def test_a_second_ctrl_c_does_not_wait_for_its_end(grid: Grid, script: Callable[[str], str]) -> None:
    text = "import signal, time\nsignal.signal(15, lambda *_: print('no', flush=True))\nprint('up', flush=True)\n"
    process = grid.start("run", script(text + "while True: time.sleep(0.1)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "no\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "is being cancelled" in err
    grid("cancel", "--now", "last")


def test_the_same_job_is_not_submitted_twice_by_two_keys(grid: Grid, script: Callable[[str], str]) -> None:
    before = len(grid.json("list", "--all"))
    began = time.monotonic()
    assert grid("run", script("print()")).returncode == 0
    assert time.monotonic() - began < 60
    assert len(grid.json("list", "--all")) == before + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import urllib.request\nurllib.request.urlopen('http://example.invalid')", "--network"),
        ("open('/data', 'w')", "not at /data"),
        ("import os\nos.execv('x', ['x'])", "another processor"),
        ("f = open('/tmp/x', 'wb')\nf.write(bytes(200 * 1024**2))\nf.flush()", "counts as memory"),
        ("raise ValueError('mine')", None),
    ],
)
def test_a_failure_comes_with_a_hint(
    grid: Grid, script: Callable[[str], str], tmp_path: Path, text: str, words: str | None
) -> None:
    (tmp_path / "x").write_bytes(b"\x7fELF of nobody's")
    (tmp_path / "x").chmod(0o755)
    done = grid("run", "--with", str(tmp_path / "x"), script(text))
    assert done.returncode == 1
    hints = [line for line in done.stderr.splitlines() if line.startswith("hint: ")]
    assert len(hints) == (words is not None)
    if words is not None:
        assert words in hints[0]
        assert words in grid("show", "last").stdout


def test_a_missing_module_is_named_with_its_distribution(grid: Grid, script: Callable[[str], str]) -> None:
    done = grid("run", "--no-deps", script("import yaml"))
    assert "hint: Declare pyyaml in a PEP 723 block in the script, or in requirements.txt beside it." in done.stderr
