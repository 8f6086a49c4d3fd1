"""The README's tour, executed as it is written."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT, Grid


def test_the_tour(grid: Grid, tmp_path: Path) -> None:
    """One shell runs every block, in a copy of what the tour uses."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) >= 7
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    script = "set -e\n" + "\n".join(f"echo '=== {i}'\n{block}" for i, block in enumerate(blocks))
    env = {**grid.env, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    assert told[0] in done.stdout
    assert "exit code 137" in done.stdout
    assert "oom: out of memory: limit 512 MiB" in done.stdout
    assert "with 2 GB it fits" in done.stdout
    assert '"count": 8' in done.stdout


def test_the_two_commands_come_first() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.index("scripts/quickstart") < readme.index("scripts/test") < readme.index("## ")
