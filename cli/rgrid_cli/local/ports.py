"""Ports of this machine: found free, or asked for and held against whoever has them.

Free ones are looked for below the range the kernel gives to outgoing connections: a port written down today must not
be some browser's tomorrow, nor be taken by a Ray worker in the second between a part's death and its restart.
"""

import random
import socket
from contextlib import suppress

from rgrid.errors import Code, RGridError

LOOPBACK = "127.0.0.1"
#: Above what services are assigned to and what Ray's workers take by default, below the kernel's own range.
_RANGE = range(20_000, 32_000)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether nobody listens there now."""
    with _socket(host) as probe:
        return _bind(probe, port, host)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on, each another one."""
    probes: dict[int, socket.socket] = {}
    try:
        for port in random.sample(_RANGE, len(_RANGE)):
            if len(probes) == count:
                break
            probe = _socket(LOOPBACK)
            if _bind(probe, port, LOOPBACK):
                probes[port] = probe  # held until all are found, against a grid that looks for its own just now
            else:
                probe.close()
        if len(probes) < count:
            raise RGridError(Code.PORT_TAKEN, f"no port is free from {_RANGE.start} to {_RANGE.stop}", hint="")
        return list(probes)
    finally:
        for probe in probes.values():
            probe.close()


def demand(port: int, host: str) -> int:
    """Return `port` if it is free; raise `port-taken` saying by whom."""
    if is_free(port, host):
        return port
    with _socket(host) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise RGridError(
                Code.SETTING_INVALID,
                f"RGRID_HOST: {host} is no address of this machine: {error.strerror}",
                hint="Set RGRID_HOST to an address of this machine, or 0.0.0.0 for all of them.",
            ) from error
    raise RGridError(Code.PORT_TAKEN, f"port {port} on {host} is taken{_by(port)}", port=port)


def _by(port: int) -> str:
    import psutil

    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            at = connection.laddr.port if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and at == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return " by a process of another user"


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _bind(probe: socket.socket, port: int, host: str) -> bool:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
        probe.listen()  # two probes may share a port until one of them listens
    except OSError:
        return False
    return True
