"""The listener on a real Postgres, and on peers that behave badly."""

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Self

import pytest
from sqlalchemy import Engine, text

from rgrid.store import listen
from rgrid.store.listen import Listener

Eventually = Callable[..., object]
OURS = "FROM pg_stat_activity WHERE application_name = 'rgrid listener' AND datname = current_database()"


class Hearing:
    """A listener and what it heard."""

    def __init__(
        self,
        url: str,
        on_notify: Callable[[str, str], None] | None = None,
        channels: Sequence[str] = ("rgrid_work", "rgrid_logs"),
    ) -> None:
        self.heard: list[tuple[str, str]] = []
        self.connected = threading.Semaphore(0)
        self.listener = Listener(
            url,
            channels,
            on_notify=on_notify or (lambda channel, payload: self.heard.append((channel, payload))),
            on_reconnect=self.connected.release,
        )

    def __enter__(self) -> Self:
        self.listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()


def tell(engine: Engine, word: str, channel: str = "rgrid_work") -> None:
    with engine.begin() as tx:
        tx.execute(text("SELECT pg_notify(:c, :w)"), {"c": channel, "w": word})


@pytest.fixture
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """Give the URL of something that takes connections and never speaks."""
    held: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/x", held
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in held:
        connection.close()


def test_every_channel_in_order(database_url: str, engine: Engine, eventually: Eventually) -> None:
    with Hearing(database_url) as hearing:
        assert hearing.connected.acquire(timeout=10)
        told = [("rgrid_work" if i % 2 else "rgrid_logs", str(i)) for i in range(50)]
        for channel, word in told:
            tell(engine, word, channel)
        eventually(lambda: len(hearing.heard) == len(told))
        assert hearing.heard == told


def test_a_server_that_stops_answering_is_given_up(
    database_url: str, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_QUIET_SECONDS", 0.2)
    monkeypatch.setattr(listen, "_ANSWER_SECONDS", 0.5)
    with Hearing(database_url) as hearing:
        assert hearing.connected.acquire(timeout=10)
        with engine.connect() as tx:
            frozen = tx.execute(text(f"SELECT pid {OURS}")).scalar_one()
        os.kill(frozen, signal.SIGSTOP)
        try:
            assert hearing.connected.acquire(timeout=10), "its connection is open, yet nobody is there"
            tell(engine, "again")
            eventually(lambda: ("rgrid_work", "again") in hearing.heard)
        finally:
            os.kill(frozen, signal.SIGCONT)


def test_what_goes_wrong_with_one_word_does_not_make_it_deaf(
    database_url: str, engine: Engine, eventually: Eventually
) -> None:
    heard: list[str] = []

    def take(_channel: str, payload: str) -> None:
        heard.append(payload)
        raise RuntimeError("the loop is closed")

    with Hearing(database_url, take) as hearing:
        assert hearing.connected.acquire(timeout=10)
        for word in ("one", "two"):
            tell(engine, word)
        eventually(lambda: heard == ["one", "two"])


def test_it_hears_where_many_files_are_open(database_url: str, engine: Engine, eventually: Eventually) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Hearing(database_url) as hearing:
            assert hearing.connected.acquire(timeout=10)
            tell(engine, "word")
            eventually(lambda: hearing.heard)
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stopping_waits_for_nobody(silent: tuple[str, list[socket.socket]], eventually: Eventually) -> None:
    url, connections = silent
    with Hearing(url):
        eventually(lambda: connections)
        began = time.monotonic()
    assert time.monotonic() - began < 2, "though the server never spoke"


def test_a_server_that_lets_in_and_refuses_is_not_hammered(
    database_url: str, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", listen.__name__), Hearing(database_url, channels=[""]):  # no channel has this name
        eventually(lambda: len(caplog.records) >= 4)
    pauses = [later.created - earlier.created for earlier, later in pairwise(caplog.records)]
    assert all(pause > least for pause, least in zip(pauses, (0.09, 0.19, 0.39), strict=False)), pauses


def test_stopping_is_possible_at_any_time(database_url: str) -> None:
    never = Hearing(database_url).listener
    never.stop()
    never.stop()
    once = Hearing(database_url).listener
    once.start()
    once.stop()
    once.stop()
