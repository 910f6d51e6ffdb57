"""grpc.health.v1's entries, set in a bounded time: the library waits until each watcher has taken what it is sent."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from grpc_health.v1 import health, health_pb2

# After that an entry whose watcher does not read stays as it is, for Check and its other watchers, too.
SET_S = 1.0


async def set_entries(servicer: health.aio.HealthServicer, states: Mapping[str, Any]) -> None:
    """Set the status of each name."""
    await _limited(asyncio.gather(*(servicer.set(name, state) for name, state in states.items())))


async def end_entries(servicer: health.aio.HealthServicer, names: Iterable[str]) -> None:
    """Set these entries, and all others, NOT_SERVING for good."""
    # The library sets one after the other, and would not come to those behind one that has to wait.
    await set_entries(servicer, dict.fromkeys(names, health_pb2.HealthCheckResponse.NOT_SERVING))
    await _limited(servicer.enter_graceful_shutdown())


async def _limited(setting: Awaitable[Any]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(SET_S):
            await setting
