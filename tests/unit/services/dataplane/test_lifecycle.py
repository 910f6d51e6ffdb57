import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from services.dataplane.lifecycle import STOP_SIGNALS, serve
from tests.limits import LONG_S


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leave the signals' handlers as they were: those of a process that serves are gone in the end."""
    before = [(number, signal.getsignal(number)) for number in STOP_SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


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


STARTING = """
import asyncio, threading
from services.dataplane.lifecycle import serve

async def create():
    try:
        print("starting", flush=True)
        await WAITED_FOR
    finally:
        print("given up", flush=True)

asyncio.run(serve(create))
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Start a process whose server is never there; what still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(waited_for: str) -> "subprocess.Popen[str]":
        command = (sys.executable, "-c", STARTING.replace("WAITED_FOR", waited_for))
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert line_of(started[-1]) == "starting\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_server_is_there_ends_its_start(
    start: Callable[[str], "subprocess.Popen[str]"], number: signal.Signals
) -> None:
    process = start("asyncio.Event().wait()")
    process.send_signal(number)
    assert process.wait(LONG_S) == 0
    assert line_of(process) == "given up\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_start_at_once_that_waits_for_a_thread(
    start: Callable[[str], "subprocess.Popen[str]"], number: signal.Signals
) -> None:
    process = start("asyncio.to_thread(threading.Event().wait)")
    process.send_signal(number)
    assert line_of(process) == "given up\n"
    process.send_signal(number)
    assert process.wait(LONG_S) == -number


async def test_a_server_that_is_there_in_spite_of_the_signal_is_closed() -> None:
    server = Recorded()

    async def create() -> Recorded:
        os.kill(os.getpid(), signal.SIGTERM)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return server

    try:
        await serve(create)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as tests/conftest.py has it
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


CLOSED = """
import asyncio, threading
from services.dataplane.lifecycle import serve

class Server:
    async def drain(self):
        pass

    async def close(self):
        print("closed", flush=True)

async def create():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    asyncio.get_running_loop().call_soon(__import__("os").kill, __import__("os").getpid(), 15)
    return Server()

asyncio.run(serve(create))
"""


def test_a_signal_ends_a_closed_process_at_once_that_waits_for_a_thread() -> None:
    with subprocess.Popen([sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, text=True) as process:
        assert line_of(process) == "closed\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # it closes, and its handlers go
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(LONG_S) == -signal.SIGTERM
        finally:
            process.kill()
