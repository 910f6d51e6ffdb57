"""Ports of this machine that are free now; another program may take one before it is used."""

import random
import socket
from contextlib import suppress

LOOPBACK = "127.0.0.1"
# Below those that Linux gives to any caller (ip_local_port_range), which may be taken before a service starts, and
# below the NodePorts of Kubernetes.
PORTS = range(28_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Return that many different ports. Raises OSError where there are not so many."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with suppress(OSError), socket.create_server((LOOPBACK, port)):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} ports of {PORTS[0]}..{PORTS[-1]} are not free")
