"""The same hello by `docker run` and by `rgrid run`, in turn, so that noise falls on both alike.

`docker run` gets the sandbox a job gets. Both are whole processes, timed from outside, output read to its end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SANDBOX = ["--rm", "--network=none", "--memory=512m", "--memory-swap=512m", "--cpus=1", "--pids-limit=256", "--init"]
SANDBOX += ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=65534:65534"]
HELLO = "print('hello')\n"


def timed(words: list[str]) -> float:
    """Run a command and return its seconds; anything but a hello is no measurement."""
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    took = time.perf_counter() - began
    assert done.stdout == "hello\n", done
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=15)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "hello.py"
        script.write_text(HELLO)
        script.chmod(0o644)
        Path(folder).chmod(0o755)
        rgrid = [sys.executable, "-m", "rgrid_cli"]
        commands = {
            "docker": [
                "docker",
                "run",
                *SANDBOX,
                f"-v{folder}:/workspace",
                "python:3.11",
                "python",
                "/workspace/hello.py",
            ],
            "rgrid": [*rgrid, "run", str(script)],
            "rgrid_version": [*rgrid, "version"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(2):
            timed(commands["docker"])
            timed(commands["rgrid"])
        for _ in range(words.runs):
            for name in ("docker", "rgrid"):
                took[name].append(timed(commands[name]))
            began = time.perf_counter()
            subprocess.run(commands["rgrid_version"], capture_output=True, check=True)
            took["rgrid_version"].append(time.perf_counter() - began)
    medians = {f"{name}_ms": round(statistics.median(values) * 1000, 1) for name, values in took.items()}
    found = {"runs": words.runs, **medians, "ratio": round(medians["rgrid_ms"] / medians["docker_ms"], 2)}
    if words.json:
        print(json.dumps(found))
        return
    print(f"docker run   {found['docker_ms']:8.1f} ms")
    print(
        f"rgrid run    {found['rgrid_ms']:8.1f} ms   of it {found['rgrid_version_ms']:.1f} ms to start a Python command"
    )
    print(f"ratio        {found['ratio']:8.2f}      over {words.runs} runs each, medians")


if __name__ == "__main__":
    main()
