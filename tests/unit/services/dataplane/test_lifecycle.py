import asyncio
import os
import signal
import subprocess
import sys

import pytest

from services.dataplane.lifecycle import serve


class Recorded:
    """A Server that takes no time, or for ever, to drain."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.steps: list[str] = []
        self._stuck = stuck

    async def drain(self) -> None:
        self.steps.append("drain")
        if self._stuck:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.steps.append("close")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_closes(number: signal.Signals) -> None:
    server = Recorded()

    async def create() -> Recorded:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        return server

    await serve(create)
    assert server.steps == ["drain", "close"]


async def test_a_second_signal_closes_at_once() -> None:
    server = Recorded(stuck=True)

    async def create() -> Recorded:
        os.kill(os.getpid(), signal.SIGTERM)
        return server

    await serve(create)
    assert server.steps == ["drain", "close"]


async def test_a_fault_while_draining_still_closes_and_is_not_lost() -> None:
    server = Recorded()

    async def fail() -> None:
        raise RuntimeError("drain failed")

    async def create() -> Recorded:
        server.drain = fail  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGTERM)
        return server

    with pytest.raises(RuntimeError, match="drain failed"):
        await serve(create)
    assert server.steps == ["close"]


FAULTS = """
import resource
from services.dataplane.lifecycle import _keep_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [bytes(600_000) for _ in range(32)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(3)
given_back = faults(10)
_keep_memory()
faults(3)
print(given_back, faults(10))
"""


def test_memory_that_large_tensors_left_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    given_back, kept = map(int, done.stdout.split())
    # 19 MB a round are some 4,700 pages of 4 KiB.
    assert kept < given_back / 10
