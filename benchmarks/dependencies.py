"""What dependencies cost: the first run and the next ones with numpy and pandas, against the same script without.

Each round has a grid of its own, so that its first run finds no environment and no cache. Beside it, in the same round,
`uv pip install` of the same in a bare container with an empty cache: what a first run cannot be quicker than.
Prints medians in milliseconds; `--json` for machines.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from uv import find_uv_bin

HELLO = 'print("hello")\n'
BLOCK = '# /// script\n# dependencies = ["numpy", "pandas"]\n# ///\n'
INSTALL = "uv venv -q /tmp/e && uv pip install -q -p /tmp/e/bin/python numpy pandas"
IMAGE = "python:3.11"


def timed(words: list[str], env: dict[str, str]) -> float:
    """Return how long a command took, in milliseconds."""
    began = time.perf_counter()
    subprocess.run(words, env=env, check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def bare_install() -> float:
    """Return how long `uv pip install` takes in a container, its start included."""
    bundle = os.environ.get("SSL_CERT_FILE")
    words = ["docker", "run", "--rm", "-v", f"{find_uv_bin()}:/usr/local/bin/uv:ro", "-e", "UV_PYTHON_DOWNLOADS=never"]
    if bundle:
        words += ["-v", f"{bundle}:/ca.pem:ro", "-e", "SSL_CERT_FILE=/ca.pem"]
    return timed([*words, IMAGE, "sh", "-c", INSTALL], dict(os.environ))


def one_round(runs: int, figures: dict[str, list[float]]) -> None:
    """Measure on a grid of its own."""
    with tempfile.TemporaryDirectory(prefix="rgrid-bench-") as folder:
        Path(folder).chmod(0o711)
        plain, needy = Path(folder) / "plain.py", Path(folder) / "needy.py"
        plain.write_text(HELLO)
        needy.write_text(BLOCK + HELLO)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RGRID_", "RAY_"))}
        env = {**clean, "RGRID_HOME": f"{folder}/home"}
        rgrid = [sys.executable, "-m", "rgrid_cli"]
        subprocess.run([*rgrid, "up"], env=env, check=True, capture_output=True)
        try:
            timed([*rgrid, "run", str(plain)], env)
            figures["uv pip install in a container"].append(bare_install())
            figures["first run"].append(timed([*rgrid, "run", str(needy)], env))
            time.sleep(10)  # bytecode is compiled in the background, with the least share of the CPU
            for _ in range(runs):
                figures["without dependencies"].append(timed([*rgrid, "run", str(plain)], env))
                figures["next runs"].append(timed([*rgrid, "run", str(needy)], env))
        finally:
            subprocess.run([*rgrid, "down"], env=env, check=False, capture_output=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench deps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    names = ("uv pip install in a container", "first run", "without dependencies", "next runs")
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(words.rounds):
        sys.stderr.write(f"round {number + 1} of {words.rounds}\n")
        one_round(words.runs, figures)
    medians = {name: round(statistics.median(values), 1) for name, values in figures.items()}
    added = round(medians["next runs"] - medians["without dependencies"], 1)
    over = round(medians["first run"] - medians["uv pip install in a container"], 1)
    if words.json:
        print(json.dumps({"median_ms": medians, "next_runs_add_ms": added, "first_run_over_install_ms": over}))
        return
    for name, value in medians.items():
        print(f"{name:<32} {value:>9.1f} ms")
    print(f"{'next runs add':<32} {added:>9.1f} ms")
    print(f"{'first run over the install':<32} {over:>9.1f} ms")


if __name__ == "__main__":
    main()
