"""The unit ring reaches nothing: no socket, so no Ray, no Docker, no Postgres."""

import socket

import pytest


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever tries to connect."""

    def refuse(*_: object) -> None:
        raise AssertionError("a unit test tried to reach the outside")

    monkeypatch.setattr(socket.socket, "connect", refuse)
