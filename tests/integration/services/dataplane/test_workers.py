"""What a worker may do wrong, and that another takes its place; their command is a small program of the test's."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.dataplane.workers import BindAddresses, WorkerError, Workers
from tests.limits import LONG_S

# Says where its metrics are and what its process is, and lives as long as its parent.
GOOD = """
import os, socket, sys
life = socket.socket(fileno=int(sys.argv[-1]))
open(sys.argv[1], "w").write(str(os.getpid()))
life.sendall(b"1\\n")
life.recv(1)
"""
SILENT = "import time; time.sleep(1000)"


class Program:
    """The workers' command: a link to the interpreter, so that it can be taken away, and a file of Python."""

    def __init__(self, folder: Path) -> None:
        self.interpreter, self._script, self.pid_file = folder / "python", folder / "worker.py", folder / "pid"
        self.interpreter.symlink_to(sys.executable)
        self.write(GOOD)
        self.command = (str(self.interpreter), "-S", str(self._script), str(self.pid_file))

    def write(self, text: str) -> None:
        self._script.write_text(text)

    def kill(self) -> None:
        """Kill the worker that wrote its number last."""
        os.kill(int(self.pid_file.read_text()), 9)
        self.pid_file.unlink()


@asynccontextmanager
async def started(program: Program, start_timeout_s: float = 100) -> AsyncIterator[Workers]:
    places = BindAddresses("127.0.0.1", 0, "127.0.0.1", 0)
    workers = Workers(program.command, 1, places, start_timeout_s=start_timeout_s)
    try:
        await workers.start()
        yield workers
    finally:
        await workers.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):  # the machine may be busy
        while not condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), LONG_S))


def test_a_worker_that_cannot_be_started_is_logged_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(tmp_path)

    async def scenario() -> None:
        async with started(program):
            program.interpreter.unlink()
            program.kill()
            await until(lambda: "a worker cannot be started: No such file or directory; trying again" in caplog.text)
            program.interpreter.symlink_to(sys.executable)
            await until(program.pid_file.exists)

    with caplog.at_level(logging.ERROR):
        run(scenario)


@pytest.mark.slow
def test_a_worker_that_does_not_listen_in_time_is_logged_and_another_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(tmp_path)

    async def scenario() -> None:
        async with started(program, start_timeout_s=15):
            program.write(SILENT)
            program.kill()
            await until(lambda: "a worker did not listen within 15 s; trying again" in caplog.text)
            program.write(GOOD)
            await until(program.pid_file.exists)

    with caplog.at_level(logging.ERROR):
        run(scenario)


def test_a_worker_that_says_nonsense_is_logged_and_another_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(tmp_path)

    async def scenario() -> None:
        async with started(program):
            program.write(GOOD.replace("1\\n", "nonsense\\n"))
            program.kill()
            await until(lambda: "a worker could not be started; trying again" in caplog.text)
            program.write(GOOD)
            await until(program.pid_file.exists)

    with caplog.at_level(logging.ERROR):
        run(scenario)


def test_a_first_worker_that_cannot_be_started_is_one_error(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.interpreter.unlink()

    async def scenario() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with started(program):
                pass
        assert caught.group_contains(WorkerError, match="a worker cannot be started: No such file")

    run(scenario)


def test_a_stop_in_the_moment_in_which_a_worker_listens_is_not_lost(tmp_path: Path) -> None:
    program = Program(tmp_path)

    async def scenario() -> None:
        for _ in range(20):
            async with started(program) as workers:
                program.kill()
                # Its number is there just before it says that it listens.
                await until(program.pid_file.exists)
            assert workers.port
            program.pid_file.unlink(missing_ok=True)

    run(scenario)
