"""The gateway of a local grid, as a process: `python -m rgrid_api` with its settings in the environment."""

import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from rgrid.errors import Code, RGridError
from rgrid_cli.local.processes import Child

START_SECONDS = 30.0
STOP_SECONDS = 6.0


class GatewayProcess(Child):
    """The gateway's process, and where it is reached."""

    def __init__(self, home: Path, *, host: str, port: int, database_url: str) -> None:
        """Say where it listens and whose database it speaks for."""
        env = {
            "RGRID_HOME": str(home),
            "RGRID_DATABASE_URL": database_url,
            "RGRID_HOST": host,
            "RGRID_PORT": str(port),
        }
        super().__init__("gateway", [sys.executable, "-m", "rgrid_api"], env=env, log=home / "logs" / "gateway.log")
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # it may be told to listen there
        self.url = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"

    def await_health(self, which: Literal["live", "ready"], go_on: Callable[[], None]) -> None:
        """Return once it is well; `go_on` is asked meanwhile, and may raise."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{self.url}/v1/health/{which}"):
            go_on()
            if not self.alive() or time.monotonic() > deadline:
                raise RGridError(Code.GRID_START_FAILED, f"the gateway did not start: {self.last_words()} ({self.log})")
            time.sleep(0.02)


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of our loopback
    with suppress(OSError), direct.open(url, timeout=2) as response:
        return bool(response.status == 200)  # noqa: PLR2004
    return False
