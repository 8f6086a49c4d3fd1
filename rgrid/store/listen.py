"""Hears Postgres's notifications in a thread of its own, and comes back after every loss of the connection.

What was notified while nobody listened is gone: `on_reconnect` says so, and whoever listens looks at everything again.

Nothing here waits for Postgres without an end: the connection is an asynchronous one, each wait also watches the pipe
by which `stop` wakes the thread, and a peer that does not answer in time is given up.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg2
from psycopg2 import extensions, sql

from rgrid.store.engine import dsn

log = logging.getLogger(__name__)

#: Without a word for so long the connection is tried: a peer that vanished says nothing by itself.
_QUIET_SECONDS = 30.0
#: How long Postgres may take to let us in, or to answer.
_ANSWER_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class _StoppedError(Exception):
    """`stop` was called while the thread waited."""


class Listener:
    """One connection that listens on some channels."""

    def __init__(
        self,
        url: str,
        channels: Sequence[str],
        *,
        on_notify: Callable[[str, str], None],
        on_reconnect: Callable[[], None],
    ) -> None:
        """Keep what is given. Both functions are called from the listener's thread."""
        self._dsn, self._channels = dsn(url), channels
        self._on_notify, self._on_reconnect = on_notify, on_reconnect
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._wake = self._waker = -1

    def start(self) -> None:
        """Begin to listen."""
        self._wake, self._waker = os.pipe()
        self._thread.start()

    def stop(self) -> None:
        """Stop, and return when the thread is gone. Stopping twice, or before the start, does nothing."""
        if self._stopped.is_set() or self._wake < 0:
            return
        self._stopped.set()
        os.write(self._waker, b".")
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except _StoppedError:
                return
            except (psycopg2.Error, OSError) as error:
                log.info("not listening, trying again in %.1f s: %s", pause, str(error).strip())
            # Only one that held is worth coming back to at once; one that breaks each time must not be hammered.
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS * 2:
                pause = _FIRST_PAUSE_SECONDS
            self._stopped.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        with closing(psycopg2.connect(self._dsn, async_=1, application_name="rgrid listener")) as connection:
            self._settle(connection)
            cursor = connection.cursor()
            for channel in self._channels:
                cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                self._settle(connection)
            self._call(self._on_reconnect)
            while True:
                if self._wait(connection, select.POLLIN, _QUIET_SECONDS):
                    connection.poll()
                else:
                    cursor.execute("SELECT 1")
                    self._settle(connection)
                while connection.notifies:
                    notice = connection.notifies.pop(0)
                    self._call(self._on_notify, notice.channel, notice.payload)

    def _settle(self, connection: extensions.connection) -> None:
        """Let what was begun on the connection come to its end."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while (state := connection.poll()) != extensions.POLL_OK:
            wanted = select.POLLOUT if state == extensions.POLL_WRITE else select.POLLIN
            if not self._wait(connection, wanted, deadline - time.monotonic()):
                raise TimeoutError(f"Postgres did not answer within {_ANSWER_SECONDS:g} s")

    def _wait(self, connection: extensions.connection, wanted: int, seconds: float) -> bool:
        """Wait until the connection is ready; False when it is not in time."""
        poll = select.poll()  # select() takes no file descriptor above 1023, and a busy gateway has more
        poll.register(connection.fileno(), wanted)
        poll.register(self._wake, select.POLLIN)
        ready = poll.poll(max(0.0, seconds) * 1000)
        if self._stopped.is_set():
            raise _StoppedError
        return bool(ready)

    def _call(self, function: Callable[..., None], *args: str) -> None:
        """Tell whoever listens; what goes wrong there must not make the grid deaf."""
        try:
            function(*args)
        except Exception:
            log.exception("a notification was not taken")
