"""Ports: which are taken, and by whom."""

import socket
from collections.abc import Iterable

import psutil

from servepath.protocols.addresses import host_port, socket_path
from servepath.runner.config import Service
from servepath.runner.processes import RunError

LOOPBACK = "127.0.0.1"
CONNECT_S = 1.0
MAX_COMMAND = 100


def refuse_busy(services: Iterable[Service]) -> None:
    """Check every port of the services. Raises RunError naming port, service, holder and the variable to change."""
    for service in services:
        for variable, port in service.port_variables():
            if is_busy(port):
                raise RunError(
                    f"{service.name}: port {port} is busy{_holder(port)}; stop that, or set {variable} to another"
                )


def is_busy(port: int) -> bool:
    """Return whether a port of this machine is in use."""
    with socket.socket() as probe:
        # Without it, connections that ended a minute ago would count as busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return True
        return False


def accepts(address: str) -> bool:
    """Return whether somebody accepts connections at HOST:PORT or unix:PATH."""
    try:
        if path := socket_path(address):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(CONNECT_S)
                probe.connect(str(path))
            return True
        with socket.create_connection(host_port(address), CONNECT_S):
            return True
    except OSError:
        return False


def _holder(port: int) -> str:
    """Return " (held by ...)", or "" where the system does not say."""
    try:
        found = psutil.net_connections("tcp")
        pid = next(c.pid for c in found if c.laddr and c.laddr[1] == port and c.status == psutil.CONN_LISTEN)
        command = " ".join(psutil.Process(pid).cmdline()) if pid else ""
    except (psutil.Error, OSError, StopIteration):
        return ""
    return f" (held by pid {pid}: {command[:MAX_COMMAND]})" if pid else ""
