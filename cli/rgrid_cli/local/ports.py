"""Ports on loopback: found free, or asked for and held against whoever has them."""

import socket
from contextlib import suppress

from rgrid.errors import Code, RGridError


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether nobody listens there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, each another one."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def demand(port: int, host: str) -> int:
    """Return `port` if it is free; raise `port-taken` saying by whom."""
    if is_free(port, host):
        return port
    raise RGridError(Code.PORT_TAKEN, f"port {port} on {host} is taken{_by(port)}", port=port)


def _by(port: int) -> str:
    import psutil

    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            at = connection.laddr.port if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and at == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return " by a process of another user"
