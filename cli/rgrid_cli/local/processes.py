"""Processes of a grid: started in sessions of their own, known by pid *and* birth, ended with all they started.

A pid alone names nobody for long. Nothing is ever ended that was not started, or recorded, as ours.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from rgrid.home import write_private

#: Births are told in clock ticks; two readings of one birth may differ by less than this.
_SAME_BIRTH_SECONDS = 0.1


class Child:
    """One long-lived process."""

    def __init__(self, name: str, words: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        """Say what to run, with what beside our own environment, and where its words go."""
        self.name, self.log = name, log
        self._words, self._env = words, env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        return self._process.pid if self.alive() and self._process is not None else None

    def alive(self) -> bool:
        """Say whether it lives; one that has ended is reaped."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env},
                start_new_session=True,
                cwd="/",
            )

    def stop(self, patience: float) -> None:
        """Ask it to end, wait, then end it and everything it started."""
        process, self._process = self._process, None
        if process is not None:
            end_tree(process.pid, patience)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)

    def last_words(self) -> str:
        """Return the last line of its log that says something."""
        return last_words(self.log)


def last_words(log: Path) -> str:
    """Return the last line of a log that says something."""
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-50:]]
        told = [line for line in lines if line and not line.startswith("hint:")]
        if told:
            return told[-1]
    return "it said nothing"


def end_tree(pid: int, patience: float) -> None:
    """End a process and all its descendants, noted first: once it is gone nobody could tell whose they were."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        root.terminate()
        _, alive = psutil.wait_procs([root], timeout=patience)
        for process in {*alive, *family}:
            with suppress(psutil.Error):
                if process.is_running():
                    process.kill()
        psutil.wait_procs(family, timeout=5)


def record(path: Path, pids: Mapping[str, int]) -> None:
    """Write down who was started, for whoever comes after a crash."""
    births = {}
    for name, pid in pids.items():
        with suppress(psutil.Error):
            births[name] = [pid, psutil.Process(pid).create_time()]
    write_private(path, json.dumps(births))


def recorded(path: Path) -> dict[str, int]:
    """Return those of the record that still live: same pid, same birth."""
    try:
        births = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    alive = {}
    for name, (pid, birth) in births.items():
        with suppress(psutil.Error):
            if abs(psutil.Process(pid).create_time() - birth) < _SAME_BIRTH_SECONDS:
                alive[str(name)] = int(pid)
    return alive


def await_end(pid: int, seconds: float) -> bool:
    """Wait for a process that is not our child to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return True
    return False
