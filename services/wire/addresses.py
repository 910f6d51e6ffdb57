"""HOST:PORT, as everybody here writes where a server is."""

import re

MAX_PORT = 2**16 - 1
# A name or an IPv4 address, or an IPv6 address in brackets; no scheme, no path.
_ADDRESS = re.compile(r"(?:\[[^\[\]/\s@]+\]|[^\[\]/\s@:?#]+):([0-9]{1,5})")


def is_address(text: str) -> bool:
    """Return whether a text is HOST:PORT."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[1]) <= MAX_PORT
