"""Processes of a grid: started in sessions of their own, known by pid *and* birth, ended with all they started.

A pid alone names nobody for long. Nothing is ever ended that was not started, or recorded, as ours.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from rgrid.home import write_private

#: Births are told in clock ticks; two readings of one birth may differ by less than this.
_SAME_BIRTH_SECONDS = 0.1
KILL_SECONDS = 5.0
#: The parts of a grid in the order they are taken down, and how each is asked: on SIGTERM Postgres waits for clients.
_HOW = {
    "boot": signal.SIGKILL,
    "gateway": signal.SIGTERM,
    "ray": signal.SIGTERM,
    "postgres": signal.SIGINT,
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
        if process is None:
            return
        if process.poll() is None:
            end_tree(process.pid, patience)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        _end_session(process.pid)

    def last_words(self) -> str:
        """Return the last line of its log that says something."""
        return last_words(self.log)


def last_words(log: Path) -> str:
    """Return the last line of a log that says something."""
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-50:]]
        told = [_COLOUR.sub("", line) for line in lines if line and not line.startswith("hint:")]
        if told:
            return told[-1]
    return "it said nothing"


def end_tree(pid: int, patience: float, *, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process and all its descendants, noted first: once it is gone nobody could tell whose they were."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        root.send_signal(how)
        _await_all([root], patience)
        for process in family:
            with suppress(psutil.Error):
                if process.is_running():
                    process.kill()
        _await_all(family, KILL_SECONDS)


def _end_session(leader: int) -> None:
    """End what is left of the session of a child that is gone and reaped: those it started while it was ending, too."""
    if psutil.pid_exists(leader):
        return  # somebody else's by now, and no pid is given anew while its session has members
    left = [process for process in psutil.process_iter() if _session_of(process.pid) == leader]
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    _await_all(left, KILL_SECONDS)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def record(path: Path, pids: Mapping[str, int]) -> None:
    """Write down who was started, for whoever comes after a crash."""
    births = {}
    for name, pid in pids.items():
        with suppress(psutil.Error):
            births[name] = [pid, psutil.Process(pid).create_time()]
    write_private(path, json.dumps(births))


def recorded(path: Path) -> dict[str, int]:
    """Return those of the record that still live: same pid, same birth."""
    alive: dict[str, int] = {}
    try:
        births = [(str(name), int(pid), float(birth)) for name, (pid, birth) in json.loads(path.read_text()).items()]
    except (OSError, ValueError, TypeError, AttributeError):  # not there, or not what we wrote: it names nobody
        return alive
    for name, pid, birth in births:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - birth) < _SAME_BIRTH_SECONDS and _lives(process):
                alive[name] = pid
    return alive


def end_recorded(path: Path, patience: float) -> list[str]:
    """End those of the record that still live, in the order of taking down; return their names."""
    left = recorded(path)
    for name, how in _HOW.items():
        if name in left:
            end_tree(left[name], patience, how=how)
    return [name for name in _HOW if name in left]


def await_end(pid: int, seconds: float) -> bool:
    """Wait for a process that is not our child to end; say whether it did."""
    with suppress(psutil.NoSuchProcess):
        return _await_all([psutil.Process(pid)], seconds)
    return True


def _await_all(processes: Sequence[psutil.Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(_lives, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _lives(process: psutil.Process) -> bool:
    """Say whether it does anything yet: one that only waits to be reaped may wait long, where `init` is lazy."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
