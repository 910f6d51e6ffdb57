"""Names that stand for all addresses they have in DNS, dns:///HOST:PORT, looked up again and again."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from servepath.protocols.addresses import dns_name, host_port, split_addresses

log = logging.getLogger(__name__)
# A change is followed within 30 s, a slow answer included.
LOOK_EVERY_S, TIMEOUT_S = 10.0, 5.0
# Gives the addresses of HOST:PORT, as IP:PORT. Raises OSError or ValueError.
Lookup = Callable[[str], Awaitable[Sequence[str]]]


async def look_up(name: str) -> list[str]:
    """Return all addresses of HOST:PORT. Raises OSError, or ValueError for what is no name."""
    host, port = host_port(name)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = sorted({str(address[0]) for *_, address in found})
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]


class Resolver:
    """Keeps what names mean; a name that cannot be looked up means what it meant last, at first itself.

    on_change: called when a name means other addresses than before.
    """

    def __init__(self, lookup: Lookup = look_up, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self.on_change: Callable[[], None] = _nothing
        self._lookup = lookup
        self._look_every_s = look_every_s
        self._known: dict[str, tuple[str, ...]] = {}
        self._task: asyncio.Task[None] | None = None
        self._new = asyncio.Event()

    def addresses(self, text: str) -> tuple[str, ...]:
        """Return the addresses of a server's replicas; a name that is new is looked up soon."""
        found: dict[str, None] = {}
        for one in split_addresses(text):
            name = dns_name(one)
            if name and name not in self._known:
                self._known[name] = (name,)
                self._new.set()
            found |= dict.fromkeys(self._known[name] if name else (one,))
        return tuple(found)

    def keep(self, texts: Iterable[str]) -> None:
        """Forget the names that stand in none of these settings."""
        wanted = {dns_name(one) for text in texts for one in split_addresses(text)}
        self._known = {name: known for name, known in self._known.items() if name in wanted}

    def start(self) -> None:
        """Look the names up, now and every `look_every_s`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End looking up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            names = tuple(self._known)
            self._new.clear()
            if any(await asyncio.gather(*(self._look_up(name) for name in names))):
                self.on_change()
            try:
                async with asyncio.timeout(self._look_every_s if names else None):
                    await self._new.wait()
            except TimeoutError:
                pass

    async def _look_up(self, name: str) -> bool:
        """Return whether a name means other addresses than before."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = tuple(await self._lookup(name))
        except (OSError, ValueError, TimeoutError) as error:  # a name may be none: "a..b"
            log.warning("%s cannot be looked up, and means what it did: %s", name, error or "no answer")
            return False
        if not found or found == self._known.get(name, found):  # it may have been forgotten meanwhile
            return False
        log.info("%s is %s", name, ", ".join(found))
        self._known[name] = found
        return True


def _nothing() -> None:
    pass
