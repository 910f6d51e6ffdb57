"""Where the engine runs: on the loop while its runs are short, on a thread otherwise."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from time import sleep

import pytest

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.errors import BadInput, Internal
from servepath.protocols.types import Tensor
from services.dataplane.backend import Call, Outcome
from services.oip_server.threads import INLINE_S, RECENT, EngineThreads, InlinePolicy
from tests.limits import LONG_S
from tests.serving_fakes import SERVED, call

SHORT_S, SLOW_S = INLINE_S / 10, INLINE_S * 10


class Engine:
    """An Engine that says on which thread it ran."""

    name = version = "fake"
    slow_first_runs = False

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.takes_s = 0.0
        self.fault: Exception | None = None

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        return (), ()

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        self.threads.append(threading.current_thread())
        sleep(self.takes_s)
        if self.fault is not None:
            raise self.fault
        return tuple(inputs) if outputs else ()

    @property
    def ran_inline(self) -> bool:
        """Return whether the last run was on this thread."""
        return self.threads[-1] is threading.current_thread()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def threads(engine: Engine) -> AsyncIterator[EngineThreads]:
    made = EngineThreads(engine, SERVED, ("y",), threads=1)
    yield made
    await made.close()


async def ask(threads: EngineThreads, rows: int = 1) -> Outcome:
    one: Call = call()
    one.rows = rows
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    one.add_done_callback(outcome.set_result)
    threads.submit(one)
    return await outcome


async def until_inline(threads: EngineThreads, engine: Engine) -> None:
    async with asyncio.timeout(LONG_S):
        while not (engine.threads and engine.ran_inline):
            await ask(threads)


async def test_the_first_runs_are_on_a_thread_and_short_ones_move_to_the_loop(
    threads: EngineThreads, engine: Engine
) -> None:
    for _ in range(RECENT):
        await ask(threads)
        assert not engine.ran_inline
    await until_inline(threads, engine)


async def test_an_engine_that_gets_slow_moves_to_a_thread_and_back(threads: EngineThreads, engine: Engine) -> None:
    await until_inline(threads, engine)
    engine.takes_s = SLOW_S
    await ask(threads)
    for _ in range(2 * RECENT):
        await ask(threads)
        assert not engine.ran_inline
    engine.takes_s = 0.0
    await until_inline(threads, engine)


async def test_many_more_rows_than_seen_go_to_a_thread(threads: EngineThreads, engine: Engine) -> None:
    await until_inline(threads, engine)
    await ask(threads, rows=1_000_000)
    assert not engine.ran_inline


@pytest.mark.parametrize("inline", [False, True])
async def test_failures_end_their_call_wherever_it_runs(
    threads: EngineThreads, engine: Engine, *, inline: bool
) -> None:
    if inline:
        await until_inline(threads, engine)
    for fault, said in ((BadInput("an element"), BadInput), (RuntimeError("secret"), Internal)):
        if inline:  # a busy machine may have sent the engine back to its thread
            engine.fault = None
            await until_inline(threads, engine)
        engine.fault = fault
        assert isinstance(await ask(threads), said)


def test_one_short_run_among_waits_for_the_interpreter_is_enough_to_leave_the_threads() -> None:
    policy = InlinePolicy()
    for number in range(RECENT):
        assert not policy.inline(1)
        policy.saw_on_thread(1, SHORT_S if number == 3 else SLOW_S)
    assert policy.inline(1)


def test_runs_that_are_long_now_and_then_leave_the_loop() -> None:
    policy = InlinePolicy()
    for _ in range(RECENT):
        policy.saw_on_thread(1, SHORT_S)
    for _ in range(RECENT):
        policy.saw_inline(1, SHORT_S)
        assert policy.inline(1)
    policy.saw_inline(1, SLOW_S)
    assert not policy.inline(1)


async def test_an_engine_that_gets_slow_and_fails_moves_to_a_thread(threads: EngineThreads, engine: Engine) -> None:
    await until_inline(threads, engine)
    engine.takes_s, engine.fault = SLOW_S, BadInput("an element")
    for _ in range(2):
        assert isinstance(await ask(threads), BadInput)
    assert not engine.ran_inline
