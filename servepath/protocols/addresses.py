"""Where a server listens: HOST:PORT, or unix:PATH for a socket on the same machine."""

import re
from pathlib import Path

UNIX, DNS = "unix:", "dns:///"
MAX_PORT = 2**16 - 1
EXPECTED = "HOST:PORT or unix:PATH"
# A name or an IPv4 address, or an IPv6 address in brackets; no scheme, no path.
_HOST_PORT = re.compile(r"(?:\[[^\[\]/\s@]+\]|[^\[\]/\s@:?#]+):([0-9]{1,5})")


def is_address(text: str) -> bool:
    """Return whether a text is HOST:PORT or unix:PATH."""
    if text.startswith(UNIX):
        return len(text) > len(UNIX)
    found = _HOST_PORT.fullmatch(text)
    return found is not None and 0 < int(found[1]) <= MAX_PORT


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses of a server's replicas, which commas stand between."""
    return tuple(one.strip() for one in text.split(","))


def dns_name(address: str) -> str:
    """Return the HOST:PORT of dns:///HOST:PORT, whose every address is a replica; "" for another address."""
    return address.removeprefix(DNS) if address.startswith(DNS) else ""


def socket_path(address: str) -> Path | None:
    """Return the path of a Unix socket's address, None for HOST:PORT."""
    return Path(address.removeprefix(UNIX)) if address.startswith(UNIX) else None


def host_port(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, the host without the brackets of IPv6."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def authority(address: str) -> str:
    """Return the :authority of calls; gRPC's own clients call a Unix socket so."""
    return "localhost" if address.startswith(UNIX) else address
