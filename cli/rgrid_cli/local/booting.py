"""A boot under way: the process that puts scheduler and executors on a Ray cluster, and what it said went wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rgrid.errors import Code, RGridError
from rgrid_cli.local.processes import last_words

#: How a boot says what is wrong.
_ERROR = re.compile(r"^error\[(?P<code>[a-z-]+)\]: (?P<message>.*)\nhint: (?P<hint>.*)$", re.MULTILINE)


class Booting:
    """One boot, from its start on."""

    def __init__(self, home: Path, *, ray_address: str, environment: Mapping[str, str]) -> None:
        """Start it."""
        self._log = home / "logs" / "boot.log"
        words = [sys.executable, "-m", "rgrid_actors.boot", "--ray-address", ray_address]
        with self._log.open("ab") as out:
            self._begin = out.tell()
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "RGRID_HOME": str(home), **environment},
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None when it has not ended by then."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ended(self) -> int | None:
        """Return its exit code, or None while it is under way."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def error(self) -> RGridError:
        """Return what it said was wrong, as nearly as it can be known."""
        with self._log.open("rb") as words:
            words.seek(self._begin)
            found = _ERROR.search(words.read().decode("utf-8", "replace"))
        if found is not None and found["code"] in set(Code):
            return RGridError(Code(found["code"]), found["message"], hint=found["hint"])
        return RGridError(
            Code.GRID_START_FAILED, f"the actors did not come up: {last_words(self._log)}", hint=f"Look at {self._log}."
        )
