"""The life of a serving process: start, wait for a signal, drain, stop; a second signal stops at once."""

import asyncio
import ctypes
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

log = logging.getLogger(__name__)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Objects more than before, between two looks for cyclic garbage; Python's 700 come with a few dozen calls.
GARBAGE = 50_000
# glibc's malloc.h: what is freed at the heap's end is kept up to the one; blocks above the other, 32 MiB at most, are
# mapped by themselves.
M_TRIM_THRESHOLD, TRIM_BYTES = -1, 2**26
M_MMAP_THRESHOLD, MMAP_BYTES = -3, 2**25


class Server(Protocol):
    """A started server."""

    async def drain(self) -> None:
        """Report NOT_SERVING, refuse new calls and wait for those in flight, within the configured time."""

    async def close(self) -> None:
        """Close at once."""


async def serve(create: Callable[[], Awaitable[Server]]) -> None:
    """Create a server, wait for SIGTERM or SIGINT, drain it and close it; one that comes first ends the creation."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, signals.put_nowait, number)
    _keep_memory()
    server = await _created(create, signals)
    if server is None:
        return
    _relax_collector()
    try:
        log.info("stopping on %s", (await signals.get()).name)
        drain, again = asyncio.create_task(server.drain()), asyncio.create_task(signals.get())
        await asyncio.wait({drain, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not drain.cancel():
            drain.result()  # raises what went wrong
    finally:
        try:
            await server.close()
        finally:
            _let_signals_end_the_process()


async def _created(create: Callable[[], Awaitable[Server]], signals: asyncio.Queue[signal.Signals]) -> Server | None:
    """Return a new server, or None where a signal came before it was there."""
    creating, stop = asyncio.ensure_future(create()), asyncio.create_task(signals.get())
    await asyncio.wait({creating, stop}, return_when=asyncio.FIRST_COMPLETED)
    if creating.done():
        if not stop.cancel():
            signals.put_nowait(stop.result())
        return creating.result()
    log.info("stopping on %s, before the start has ended", stop.result().name)
    _let_signals_end_the_process()
    creating.cancel()
    await asyncio.wait({creating})
    if not creating.cancelled():
        await creating.result().close()
    return None


def _let_signals_end_the_process() -> None:
    """Restore the signals' defaults: another one then ends what waits for a thread, which cannot be cancelled."""
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _relax_collector() -> None:
    """Collect cyclic garbage rarely, and never among what was built at start: a call leaves none behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _keep_memory() -> None:
    """Make glibc's malloc keep freed memory: returned, every page of a large tensor would be faulted in again.

    By itself it finds such thresholds from what is freed, so that a process was fast or slow by its history
    (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def log_to_stderr() -> None:
    """Log at INFO with a timestamp; one line an event."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
