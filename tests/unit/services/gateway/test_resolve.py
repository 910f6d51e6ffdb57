"""Names that stand for several addresses."""

import asyncio
from collections.abc import Sequence

import pytest

from services.gateway.resolve import Resolver, look_up
from tests.limits import LONG_S


class Names:
    """A Lookup whose answers the test sets; an exception is raised."""

    def __init__(self, **known: Sequence[str] | Exception) -> None:
        self.known = known
        self.asked = 0

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked += 1
        found = self.known[name.partition(":")[0]]
        if isinstance(found, Exception):
            raise found
        return found


async def changes(resolver: Resolver) -> asyncio.Event:
    """Start a resolver and return what is set at each change."""
    changed = asyncio.Event()
    resolver.on_change = changed.set
    resolver.start()
    return changed


async def wait_for(changed: asyncio.Event) -> None:
    async with asyncio.timeout(LONG_S):
        await changed.wait()
    changed.clear()


async def test_a_name_means_itself_until_it_was_looked_up_and_then_all_its_addresses() -> None:
    resolver = Resolver(Names(pods=["10.0.0.1:8001", "10.0.0.2:8001"]))
    text = "127.0.0.1:8001,dns:///pods:8001"
    assert resolver.addresses(text) == ("127.0.0.1:8001", "pods:8001")
    await wait_for(await changes(resolver))
    assert resolver.addresses(text) == ("127.0.0.1:8001", "10.0.0.1:8001", "10.0.0.2:8001")
    await resolver.stop()


async def test_a_change_is_followed_and_what_cannot_be_looked_up_means_what_it_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = Names(pods=["10.0.0.1:8001"])
    resolver = Resolver(names, look_every_s=0.01)
    resolver.addresses("dns:///pods:8001")
    changed = await changes(resolver)
    await wait_for(changed)
    names.known["pods"] = ["10.0.0.3:8001"]
    await wait_for(changed)
    assert resolver.addresses("dns:///pods:8001") == ("10.0.0.3:8001",)
    for nothing in (OSError("no such name"), []):
        names.known["pods"] = nothing
        asked = names.asked
        async with asyncio.timeout(LONG_S):
            while names.asked < asked + 2:  # noqa: ASYNC110 - a Lookup tells nobody
                await asyncio.sleep(0.01)
    assert resolver.addresses("dns:///pods:8001") == ("10.0.0.3:8001",)
    assert not changed.is_set()
    assert "pods:8001 cannot be looked up, and means what it did: no such name" in caplog.text
    await resolver.stop()


async def test_a_name_that_comes_later_is_looked_up_at_once() -> None:
    resolver = Resolver(Names(pods=["10.0.0.1:8001"]), look_every_s=LONG_S)
    changed = await changes(resolver)
    await asyncio.sleep(0)
    resolver.addresses("dns:///pods:8001")
    await wait_for(changed)
    assert resolver.addresses("dns:///pods:8001") == ("10.0.0.1:8001",)
    await resolver.stop()


async def test_names_that_mean_the_same_are_one_replica() -> None:
    resolver = Resolver(Names())
    assert resolver.addresses("127.0.0.1:1, 127.0.0.1:1") == ("127.0.0.1:1",)


async def test_the_machines_own_name_has_its_addresses() -> None:
    found = await look_up("localhost:8001")
    assert set(found) <= {"127.0.0.1:8001", "[::1]:8001"}
    assert found


async def test_a_name_that_no_setting_has_any_more_is_not_looked_up() -> None:
    resolver = Resolver(Names(pods=["10.0.0.1:8001"]), look_every_s=LONG_S)  # which knows no other name
    resolver.addresses("dns:///pods:8001,dns:///gone:8001")
    resolver.keep(["127.0.0.1:8001", "127.0.0.1:8002, dns:///pods:8001"])
    await wait_for(await changes(resolver))
    assert resolver.addresses("dns:///pods:8001") == ("10.0.0.1:8001",)
    await resolver.stop()


async def test_a_name_that_is_forgotten_while_it_is_looked_up_is_no_change() -> None:
    async def look_up_late(_: str) -> Sequence[str]:
        resolver.keep(())
        return ["10.0.0.1:8001"]

    resolver = Resolver(look_up_late)
    resolver.addresses("dns:///pods:8001")
    assert not await resolver._look_up("pods:8001")
    assert resolver.addresses("dns:///pods:8001") == ("pods:8001",)
