"""Ports for servers that must be told theirs, or that come back on the one that they had.

A port that is free for any caller may be given to another test's server or connection before it is used. So these lie
below the ports that Linux gives out by itself (ip_local_port_range), and each pytest-xdist worker has a block of them.
"""

import itertools
import os
import random
import socket
from contextlib import suppress

FIRST, EACH, BLOCKS = 20_000, 1_000, 8

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_first = FIRST + EACH * (_worker % BLOCKS)
# Two runs of the tests side by side begin at different places.
_places = itertools.count(random.randrange(EACH))  # noqa: S311 - a place to begin, not a secret


def free_ports(count: int) -> list[int]:
    """Return that many different ports of 127.0.0.1, none of which this process has been given lately."""
    found: list[int] = []
    for place in itertools.islice(_places, EACH):
        port = _first + place % EACH
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} ports of {_first}..{_first + EACH - 1} are not free")
