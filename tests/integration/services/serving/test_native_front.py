"""What only the native front has to get right: its thread, its lists, and its neighbours."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import grpc
import pytest
from grpc import aio

from services.serving.front import Deliver, FrontLimits, RawCall
from services.serving.native_front import NativeFront

HOT = "/test.Service/Hot"


class Counting:
    """A Deliver that answers and keeps how long the lists were."""

    def __init__(self) -> None:
        self.lists: list[list[bytes]] = []

    def __call__(self, raws: list[RawCall]) -> None:
        self.lists.append([raw.payload for raw in raws])
        for raw in raws:
            raw.reply(raw.payload)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def front_of(deliver: Deliver, address: str = "127.0.0.1:0") -> NativeFront:
    return NativeFront(address, (HOT,), deliver, (), FrontLimits())


async def test_calls_that_came_while_the_loop_was_busy_are_delivered_in_one_list() -> None:
    deliver = Counting()
    front = front_of(deliver)
    port = await front.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(10)
        calls = [channel.unary_unary(HOT).future(b"%d" % n, timeout=10) for n in range(50)]
        time.sleep(0.3)  # noqa: ASYNC251 - the loop is kept from fetching
        replies = [await asyncio.to_thread(call.result) for call in calls]
    assert replies == [b"%d" % n for n in range(50)]
    # What the thread had fetched before the loop was free, and the rest.
    assert len(deliver.lists) <= 3
    await front.stop(0)


async def test_a_call_cancelled_before_the_loop_saw_it_is_never_delivered() -> None:
    deliver = Counting()
    front = front_of(deliver)
    port = await front.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(10)
        # The thread's own list may hold the first call; the second waits in the library with its end.
        first = channel.unary_unary(HOT).future(b"first", timeout=10)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is kept from fetching
        channel.unary_unary(HOT).future(b"gone", timeout=10).cancel()
        late = channel.unary_unary(HOT).future(b"late", timeout=0.1)
        time.sleep(0.3)  # noqa: ASYNC251 - as above
        assert await asyncio.to_thread(first.result) == b"first"
        assert await asyncio.to_thread(late.code) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await asyncio.to_thread(channel.unary_unary(HOT), b"next", 10) == b"next"
    assert sorted(payload for payloads in deliver.lists for payload in payloads) == [b"first", b"next"]
    await front.stop(0)


async def test_whatever_clients_do_nothing_is_kept_of_their_calls() -> None:
    held: list[RawCall] = []
    front = front_of(held.extend)
    port = await front.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [channel.unary_unary(HOT)(b"%d" % n, timeout=0.5 if n % 3 else 30) for n in range(600)]
        await until(lambda: len(held) == len(calls))
        for call in calls[::5]:
            call.cancel()
        for raw in held[::2]:
            raw.reply(b"")
        await until(lambda: len(front._calls) < len(calls) / 3)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        await writer.drain()
        writer.close()
    await until(lambda: not front._calls)
    for raw in held:
        raw.reply(b"late")
    await front.stop(0)


async def test_a_deliver_that_raises_does_not_stop_the_front(caplog: pytest.LogCaptureFixture) -> None:
    class Raising(Counting):
        def __call__(self, raws: list[RawCall]) -> None:
            if raws[0].payload == b"bad":
                raise RuntimeError("a fault of the data plane")
            super().__call__(raws)

    front = front_of(Raising())
    port = await front.start()
    with caplog.at_level(logging.ERROR):
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(aio.AioRpcError):
                await channel.unary_unary(HOT)(b"bad", timeout=0.3)
            assert await channel.unary_unary(HOT)(b"good", timeout=5) == b"good"
    assert "a fault of the data plane" in caplog.text
    await front.stop(0)


def test_the_thread_ends_when_the_loop_was_closed_without_a_stop() -> None:
    async def start() -> tuple[int, NativeFront]:
        front = front_of(Counting())
        return await front.start(), front

    loop = asyncio.new_event_loop()
    port, front = loop.run_until_complete(start())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "front")
    loop.run_until_complete(front._controls.stop(0))  # grpc.aio itself complains of a loop that is closed under it
    loop.close()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(HOT)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False), ("[::1]", False)])  # noqa: S104 - what the warning is for
async def test_a_front_that_others_can_reach_says_what_it_does_not_bound(
    host: str,
    warned: bool,  # noqa: FBT001 - a table
    caplog: pytest.LogCaptureFixture,
) -> None:
    front = front_of(Counting(), f"{host}:0")
    await front.start()
    await front.stop(0)
    assert ("takes messages of any size into memory" in caplog.text) == warned
