"""Hears Postgres's notifications in a thread of its own, and comes back after every loss of the connection.

What was notified while nobody listened is gone: `on_reconnect` says so, and whoever listens looks at everything again.
"""

import logging
import os
import select
import threading
from collections.abc import Callable, Sequence

import psycopg2
from psycopg2 import extensions, sql

from rgrid.store.engine import dsn

log = logging.getLogger(__name__)

#: Without a word for so long the connection is tried: a peer that vanished says nothing by itself.
_QUIET_SECONDS = 30.0


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
        self._wake, self._waker = os.pipe()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and return when the thread is gone."""
        self._stopped.set()
        os.write(self._waker, b".")
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        pause = 0.1
        while not self._stopped.is_set():
            try:
                connection = psycopg2.connect(self._dsn, connect_timeout=5, application_name="rgrid listener")
            except psycopg2.Error as error:
                log.info("cannot listen, trying again in %.1f s: %s", pause, str(error).strip())
                self._stopped.wait(pause)
                pause = min(pause * 2, 5.0)
                continue
            pause = 0.1
            try:
                self._listen(connection)
            except (psycopg2.Error, OSError) as error:
                log.info("the connection that listens was lost: %s", str(error).strip())
            finally:
                connection.close()

    def _listen(self, connection: extensions.connection) -> None:
        connection.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            for channel in self._channels:
                cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._on_reconnect()
        while not self._stopped.is_set():
            ready, _, _ = select.select([connection.fileno(), self._wake], [], [], _QUIET_SECONDS)
            if not ready:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            connection.poll()
            while connection.notifies:
                notice = connection.notifies.pop(0)
                self._on_notify(notice.channel, notice.payload)
