"""The lock of a home: held by its supervisor while it lives, so that it tells truly whether there is one.

The kernel lets go of it when the holder dies, however it dies. Imports nothing of the server's: every command looks.
"""

import fcntl
import time
from pathlib import Path
from typing import TextIO

from rgrid.errors import Code, RGridError

LOCK_FILE = "supervisor.lock"
#: Where the supervisor records whom it started, each by pid and birth.
PROCESSES_FILE = "processes.json"
#: Somebody who only looks holds the lock for a moment too; a supervisor that begins just then tries again.
_TRIES = 20
_PAUSE_SECONDS = 0.05


def take_lock(home: Path) -> TextIO:
    """Take the home's lock, held until the file is closed; raise `grid-busy` where a supervisor has it."""
    file = (home / LOCK_FILE).open("a")
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return file
    file.close()
    raise RGridError(Code.GRID_BUSY, f"a supervisor already looks after {home}")


def is_locked(home: Path) -> bool:
    """Say whether a supervisor looks after this home."""
    try:
        with (home / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, PermissionError):
        return False
    except OSError:
        return True
    return False
