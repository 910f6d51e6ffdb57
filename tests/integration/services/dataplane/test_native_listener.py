"""What only the native listener has to get right: its lists, its bounds, and callers that speak HTTP/2 as they like."""

import asyncio
import logging
import resource
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import cast

import grpc
import hpack
import pytest
import uvloop
from grpc import aio

from servepath.http2 import server
from servepath.http2.grpc_server import GrpcServerConnection
from servepath.http2.send_queue import SendQueue
from services.dataplane import native_controls, native_listener
from services.dataplane.listener import Dispatch, ListenerLimits, RawCall
from services.dataplane.native_listener import NativeListener
from tests.integration.services.dataplane.raw_caller import ACK, HOT, REQUEST, Caller, caller_of, request
from tests.limits import LONG_S
from tests.unit.servepath.http2.scripted_peer import (
    CONTINUATION,
    CREDIT,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST,
    SETTINGS,
    block,
    credit,
    frame,
    message,
    settings,
)

PROTOCOL_ERROR, CLOSED, REFUSED, CANCEL, CALM = 1, 5, 7, 8, 11


class Counting:
    """A `Dispatch` that answers and keeps how long the lists were."""

    def __init__(self) -> None:
        self.lists: list[list[bytes]] = []

    def __call__(self, raws: list[RawCall]) -> None:
        self.lists.append([raw.payload for raw in raws])
        for raw in raws:
            raw.reply(raw.payload)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def front_of(dispatch: Dispatch, address: str = "127.0.0.1:0") -> NativeListener:
    return NativeListener(address, (HOT,), dispatch, (), ListenerLimits())


def calls_of(front: NativeListener) -> list[int]:
    """White box: the calls that are kept, whatever their state."""
    return [number for connection in front._connections for number in connection.streams]


@pytest.fixture
async def counting() -> Counting:
    return Counting()


@pytest.fixture
async def front(counting: Counting) -> AsyncIterator[NativeListener]:
    front = front_of(counting)
    front.port = await front.start()  # type: ignore[attr-defined] # for the callers below
    yield front
    await front.stop(0)


@pytest.fixture
async def caller(front: NativeListener) -> AsyncIterator[Caller]:
    caller = await caller_of(front.port, PREFACE, settings())  # type: ignore[attr-defined] # set above
    yield caller
    caller.close()


async def test_calls_that_came_while_the_loop_was_busy_are_delivered_in_one_list(
    caller: Caller, counting: Counting
) -> None:
    numbers = range(1, 101, 2)
    # All in one write, as a loop finds them that could not read for a while.
    caller.say(*(request(n) + frame(DATA, END_STREAM, n, message(b"%d" % n)) for n in numbers))
    replies = [await caller.hear(DATA) for _ in numbers]
    assert {reply.stream: reply.payload for reply in replies} == {n: message(b"%d" % n) for n in numbers}
    assert len(counting.lists) <= 3


async def test_a_call_cancelled_before_the_loop_saw_it_is_never_delivered(caller: Caller, counting: Counting) -> None:
    def call(number: int, data: bytes) -> bytes:
        return request(number) + frame(DATA, END_STREAM, number, message(data))

    caller.say(call(1, b"first"), call(3, b"gone"), frame(RST, 0, 3, struct.pack(">L", CANCEL)), call(5, b"next"))
    replies = [await caller.hear(DATA) for _ in range(2)]
    assert [reply.payload for reply in replies] == [message(b"first"), message(b"next")]
    assert [payload for payloads in counting.lists for payload in payloads] == [b"first", b"next"]


async def test_whatever_clients_do_nothing_is_kept_of_their_calls() -> None:
    held: list[RawCall] = []
    front = front_of(held.extend)
    port = await front.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [channel.unary_unary(HOT)(b"%d" % n, timeout=3 if n % 3 else 30) for n in range(600)]
        # On a busy machine some may expire on their way.
        await until(lambda: len(held) + sum(call.done() for call in calls) >= len(calls))
        for call in calls[::5]:
            call.cancel()
        for raw in held[::2]:
            raw.reply(b"")
        await until(lambda: len(calls_of(front)) < len(calls) / 3)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        await writer.drain()
        writer.close()
    await until(lambda: not calls_of(front))
    for raw in held:
        raw.reply(b"late")
    assert (calls_of(front), front._unfinished) == ([], 0)
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
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary(HOT)(b"bad", timeout=LONG_S)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert await channel.unary_unary(HOT)(b"good", timeout=LONG_S) == b"good"
    assert "a fault of the data plane" in caplog.text
    await front.stop(0)


async def test_who_speaks_something_else_is_let_go(front: NativeListener) -> None:
    caller = await caller_of(front.port, b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[attr-defined] # set by the fixture
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await caller.hear(GOAWAY)
    caller.close()


async def test_the_beginning_may_come_byte_by_byte(front: NativeListener) -> None:
    caller = await caller_of(front.port)  # type: ignore[attr-defined] # set by the fixture
    for byte in PREFACE + settings() + request(1) + frame(DATA, END_STREAM, 1, message(b"x")):
        caller.say(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await caller.hear(DATA)).payload == message(b"x")
    caller.close()


async def test_a_message_in_pieces_and_blocks_in_pieces_are_put_together(caller: Caller, counting: Counting) -> None:
    whole = block(REQUEST)
    caller.say(
        frame(HEADERS, 0, 1, whole[:9]),
        frame(CONTINUATION, END_HEADERS, 1, whole[9:]),
        *(frame(DATA, 0, 1, bytes((byte,))) for byte in message(b"question")),
        frame(DATA, END_STREAM, 1),
    )
    assert (await caller.hear(DATA)).payload == message(b"question")
    assert counting.lists == [[b"question"]]


async def test_trailers_may_end_a_request(caller: Caller) -> None:
    caller.say(request(1), frame(DATA, 0, 1, message(b"x")), frame(HEADERS, END_HEADERS | END_STREAM, 1, block(())))
    assert (await caller.hear(DATA)).payload == message(b"x")


@pytest.mark.parametrize("wrong", [message(b"xy")[:-1], message(b"x") + b"y", b"\0", b""])
async def test_what_is_not_one_message_is_an_error_and_the_next_call_is_answered(caller: Caller, wrong: bytes) -> None:
    caller.say(request(1), frame(DATA, END_STREAM, 1, wrong), request(3), frame(DATA, END_STREAM, 3, message(b"x")))
    assert b"grpc-status\x0213" in await caller.status()
    assert (await caller.hear(DATA)).payload == message(b"x")


async def test_a_reply_waits_for_the_windows(front: NativeListener) -> None:
    caller = await caller_of(front.port, PREFACE, settings(window=10))  # type: ignore[attr-defined] # set by the fixture
    caller.say(request(1), credit(1, 5), frame(DATA, END_STREAM, 1, message(bytes(30))))
    assert len((await caller.hear(DATA)).payload) == 15
    caller.say(credit(1, 4))
    assert len((await caller.hear(DATA)).payload) == 4
    caller.say(credit(1, 100))
    assert len((await caller.hear(DATA)).payload) == 16
    assert b"grpc-status\x010" in await caller.status()
    caller.close()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (frame(DATA, 0, 1, b""), PROTOCOL_ERROR),
        (frame(RST, 0, 1, bytes(4)), PROTOCOL_ERROR),
        (frame(CREDIT, 0, 3, struct.pack(">L", 1)), PROTOCOL_ERROR),
        (request(2), PROTOCOL_ERROR),
        (request(3) + request(1), PROTOCOL_ERROR),
        (request(1) + request(1), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), 9),
        (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    ],
)
async def test_who_breaks_http2_is_told_and_let_go(caller: Caller, said: bytes, error: int) -> None:
    caller.say(said)
    assert struct.unpack(">LL", (await caller.hear(GOAWAY)).payload)[1] == error
    assert await caller.closed()


@pytest.mark.parametrize(
    ("pairs", "status"), [([(":method", "GET")], b"405"), ([("content-type", "text/html")], b"415")]
)
async def test_what_is_no_grpc_is_refused_as_http(caller: Caller, pairs: list[tuple[str, str]], status: bytes) -> None:
    caller.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block([*(dict(REQUEST) | dict(pairs)).items()])))
    assert status in await caller.status()


async def test_more_streams_than_allowed_are_refused_unseen() -> None:
    held: list[RawCall] = []
    front = NativeListener("127.0.0.1:0", (HOT,), held.extend, (), ListenerLimits(max_streams=2))
    caller = await caller_of(await front.start(), PREFACE, settings())
    for number in (1, 3, 5):
        caller.say(request(number), frame(DATA, END_STREAM, number, message(b"")))
    heard = await caller.hear(RST)
    assert (heard.stream, int.from_bytes(heard.payload, "big")) == (5, REFUSED)
    await until(lambda: len(held) == 2)
    caller.close()
    await until(lambda: not calls_of(front))
    await front.stop(0)


async def test_a_message_that_never_comes_to_its_end_ends_with_its_deadline(
    monkeypatch: pytest.MonkeyPatch, counting: Counting
) -> None:
    monkeypatch.setattr(native_listener, "SWEEP_S", 0.05)
    front = front_of(counting)
    caller = await caller_of(await front.start(), PREFACE, settings())
    caller.say(request(1, ("grpc-timeout", "10m")), frame(DATA, 0, 1, message(b"half")[:-1]))
    assert b"grpc-status\x014" in await caller.status()
    assert (front._unfinished, calls_of(front), counting.lists) == (0, [], [])
    caller.close()
    await front.stop(0)


async def test_unfinished_messages_have_a_bound_over_all_calls(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, front: NativeListener
) -> None:
    monkeypatch.setattr(native_listener, "MAX_UNFINISHED_BYTES", 200)
    caller.say(request(1), frame(DATA, 0, 1, message(bytes(200))[:80]))
    caller.say(request(3), frame(DATA, 0, 3, message(bytes(200))[:80]))
    assert b"grpc-status\x018" in await caller.status()
    caller.say(frame(DATA, END_STREAM, 3, bytes(125)), frame(RST, 0, 1, bytes(4)))
    caller.say(request(5), frame(DATA, 0, 5, message(bytes(90))[:80]), frame(DATA, END_STREAM, 5, bytes(15)))
    assert len((await caller.hear(DATA)).payload) == 95
    assert front._unfinished == 0


PARTS = [
    pytest.param(frame(DATA, 0, 1, bytes(200))[:150], id="frame"),
    pytest.param(frame(HEADERS, 0, 1, bytes(100)) + frame(CONTINUATION, 0, 1, bytes(200))[:50], id="block"),
]


@pytest.mark.parametrize("part", PARTS)
async def test_who_holds_most_of_unfinished_frames_makes_room_for_the_others(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, front: NativeListener, part: bytes
) -> None:
    monkeypatch.setattr(native_listener, "MAX_FRAME_BYTES", 200)
    hog = await caller_of(front.port, PREFACE, settings(), part)  # type: ignore[attr-defined] # set above
    await until(lambda: front._frame_bytes == 150)
    whole = request(1) + frame(DATA, END_STREAM, 1, message(bytes(91)))
    caller.say(whole[:-5])
    assert struct.unpack(">LL", (await hog.hear(GOAWAY)).payload)[1] == CALM
    assert await hog.closed()
    caller.say(whole[-5:])
    assert (await caller.hear(DATA)).payload == message(bytes(91))
    assert front._frame_bytes == 0
    hog.close()


@pytest.mark.parametrize("part", PARTS)
async def test_a_frame_that_does_not_come_to_its_end_ends_the_connection(part: bytes) -> None:
    front = NativeListener("127.0.0.1:0", (HOT,), Counting(), (), ListenerLimits(max_deadline_s=0.1))
    port = await front.start()
    caller = await caller_of(port, PREFACE, settings(), part)
    idle = await caller_of(port, PREFACE, settings())
    assert await caller.closed()
    assert (len(front._connections), front._frame_bytes) == (1, 0)
    caller.close()
    idle.close()
    await front.stop(0)


async def test_reads_that_end_equally_far_inside_a_frame_are_each_a_new_beginning(
    caller: Caller, front: NativeListener
) -> None:
    ping = frame(PING, 0, 0, bytes(8))
    caller.say(ping[:5])
    await until(lambda: front._frame_bytes == 5)
    (connection,) = front._connections
    since = connection._held_since  # white box: it would take 120 s to see
    caller.say(ping[5:], ping[:5])
    await caller.hear(PING)
    assert front._frame_bytes == 5
    assert connection._held_since > since


async def test_what_a_lost_connection_had_not_finished_is_not_kept(caller: Caller, front: NativeListener) -> None:
    caller.say(frame(DATA, 0, 1, bytes(200))[:150])
    await until(lambda: front._frame_bytes == 150)
    (connection,) = front._connections
    caller.close()
    await until(lambda: not front._connections)
    assert (len(connection._buffer), front._frame_bytes) == (0, 0)


async def test_what_a_caller_gives_for_all_streams_goes_to_the_oldest(caller: Caller) -> None:
    caller.say(settings(window=2**17), request(1), frame(DATA, END_STREAM, 1, message(bytes(2**16))))
    sent = 0
    while sent < 2**16 - 1:  # the connection's window
        sent += len((await caller.hear(DATA)).payload)
    caller.say(request(3), frame(DATA, END_STREAM, 3, message(b"younger")))
    for n in range(3):
        caller.say(credit(0, 2), credit(3, 2))
        part = await caller.hear(DATA)
        assert (part.stream, len(part.payload)) == (1, 2), n


async def test_who_is_one_too_many_is_sent_away_and_may_come_when_another_has_gone() -> None:
    front = NativeListener(
        "127.0.0.1:0", (HOT,), Counting(), (), ListenerLimits(max_connections=2, handshake_s=2 * LONG_S)
    )
    port = await front.start()
    first, second = [await caller_of(port, PREFACE, settings()) for _ in range(2)]
    await until(lambda: len(front._connections) == 2)
    late = await caller_of(port)
    assert await asyncio.wait_for(late.closed(), LONG_S)
    first.close()
    await until(lambda: len(front._connections) == 1)
    for caller in (second, await caller_of(port, PREFACE, settings())):
        caller.say(request(1), frame(DATA, END_STREAM, 1, message(b"x")))
        assert (await caller.hear(DATA)).payload == message(b"x")
        caller.close()
    late.close()
    await front.stop(0)


async def test_connections_leave_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))
    assert front_of(Counting())._most == 90


async def test_windows_that_all_streams_share_cost_one_walk_a_read(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, front: NativeListener
) -> None:
    walks: list[int] = []
    walk = SendQueue._push_all
    monkeypatch.setattr(
        SendQueue, "_push_all", lambda send_queue: (walks.append(len(send_queue.streams)), walk(send_queue))
    )
    caller.say(settings(window=0))
    numbers = range(1, 401, 2)
    caller.say(*(request(number) + frame(DATA, END_STREAM, number, message(b"x")) for number in numbers))
    await until(lambda: sum(len(connection._out.streams) for connection in front._connections) == len(numbers))
    walks.clear()
    caller.say(*(credit(0, 1) + settings(window=n % 2) for n in range(1000)), settings(window=100))
    for _ in numbers:
        assert b"grpc-status\x010" in await caller.status()
    # Some 35 KB: a few reads, none with less than a hundred of the frames but the last.
    assert 0 < len(walks) < 20


async def test_who_cancels_most_of_what_it_asks_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    monkeypatch.setattr(server, "FREE_RESETS", 10)
    caller.say(*(request(number) + frame(RST, 0, number, bytes(4)) for number in range(1, 25, 2)))
    assert struct.unpack(">LL", (await caller.hear(GOAWAY)).payload)[1] == CALM


async def test_a_table_may_be_used_until_our_settings_are_acknowledged(front: NativeListener) -> None:
    encoder = hpack.Encoder()
    caller = await caller_of(front.port, PREFACE, settings())  # type: ignore[attr-defined] # set by the fixture
    for number in (1, 3, 5):
        head = frame(HEADERS, END_HEADERS, number, encoder.encode(REQUEST))
        caller.say(head, frame(DATA, END_STREAM, number, message(b"x")))
        assert (await caller.hear(DATA)).payload == message(b"x")
    caller.say(frame(SETTINGS, ACK, 0))
    encoder.header_table_size = 0
    for number in (7, 9, 11):
        head = frame(HEADERS, END_HEADERS, number, encoder.encode(REQUEST))
        caller.say(head, frame(DATA, END_STREAM, number, message(b"x")))
        assert (await caller.hear(DATA)).payload == message(b"x")
    caller.close()


@pytest.mark.parametrize("payload", [message(b"x"), message(b"")])
@pytest.mark.parametrize("more", [frame(DATA, 0, 1, b"y"), frame(DATA, END_STREAM, 1, message(b"z"))])
async def test_who_goes_on_after_the_end_of_a_call_is_let_go(payload: bytes, more: bytes) -> None:
    held: list[RawCall] = []
    front = front_of(held.extend)
    caller = await caller_of(await front.start(), PREFACE, settings(), request(1), frame(DATA, END_STREAM, 1, payload))
    await until(lambda: bool(held))
    caller.say(more)
    assert struct.unpack(">LL", (await caller.hear(GOAWAY)).payload)[1] == CLOSED
    assert (len(held), front._unfinished) == (1, 0)
    caller.close()
    await front.stop(0)


async def test_a_control_call_s_waiting_messages_count_among_the_unfinished(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, front: NativeListener
) -> None:
    monkeypatch.setattr(native_listener, "MAX_UNFINISHED_BYTES", 100)
    head = block([*(dict(REQUEST) | {":path": "/test.Service/Other"}).items()])
    caller.say(frame(HEADERS, END_HEADERS, 1, head), frame(DATA, 0, 1, message(bytes(200))[:150]))
    assert b"grpc-status\x018" in await caller.status()
    assert front._unfinished == 0


async def test_empty_pieces_of_a_message_are_not_kept(caller: Caller, front: NativeListener) -> None:
    caller.say(request(1), *[frame(DATA, 0, 1)] * 100, frame(DATA, 0, 1, message(b"x")[:1]))
    await until(lambda: front._unfinished > 0)
    (connection,) = front._connections
    assert connection.streams[1]._parts == [b"\0"]  # type: ignore[attr-defined] # white box: of a hot call


async def test_unsent_replies_count_as_streams() -> None:
    front = NativeListener("127.0.0.1:0", (HOT,), Counting(), (), ListenerLimits(max_streams=2))
    caller = await caller_of(await front.start(), PREFACE, settings(window=0))
    for number in (1, 3, 5):
        caller.say(request(number), frame(DATA, END_STREAM, number, message(b"x")))
    assert (await caller.hear(RST)).stream == 5
    caller.say(credit(1, 100), request(7), frame(DATA, END_STREAM, 7, message(b"x")), credit(7, 100))
    while (await caller.hear(DATA)).stream != 7:
        pass
    caller.close()
    await front.stop(0)


async def test_a_reply_that_nobody_takes_is_gone_after_the_longest_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_listener, "SWEEP_S", 0.05)
    front = NativeListener("127.0.0.1:0", (HOT,), Counting(), (), ListenerLimits(max_deadline_s=0.1))
    caller = await caller_of(await front.start(), PREFACE, settings(window=2))
    caller.say(request(1), frame(DATA, END_STREAM, 1, message(b"x")))
    assert (await caller.hear(DATA)).stream == 1
    heard = await caller.hear(RST)
    assert (heard.stream, int.from_bytes(heard.payload, "big")) == (1, CANCEL)
    (connection,) = front._connections
    assert connection.open_streams == 0
    caller.say(credit(1, 100), request(3), credit(3, 100), frame(DATA, END_STREAM, 3, message(b"x")))
    assert (await caller.hear(DATA)).stream == 3
    caller.close()
    await front.stop(0)


async def test_a_stream_of_messages_that_waits_for_its_next_one_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_listener, "SWEEP_S", 0.01)
    expired: list[float] = []
    expire = GrpcServerConnection.expire
    monkeypatch.setattr(
        GrpcServerConnection, "expire", lambda connection, now: (expired.append(now), expire(connection, now))
    )
    more = asyncio.Event()

    async def two(_: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b"second"

    handlers = grpc.method_handlers_generic_handler(
        "test.Service",
        {"Two": grpc.unary_stream_rpc_method_handler(two)},  # type: ignore[arg-type] # aio's
    )
    front = NativeListener(
        "127.0.0.1:0",
        (HOT,),
        Counting(),
        (lambda server: server.add_generic_rpc_handlers((handlers,)),),
        ListenerLimits(max_deadline_s=0.1),
    )
    caller = await caller_of(await front.start(), PREFACE, settings())
    head = block([*(dict(REQUEST) | {":path": "/test.Service/Two"}).items()])
    caller.say(frame(HEADERS, END_HEADERS, 1, head), frame(DATA, END_STREAM, 1, message(b"")))
    assert (await caller.hear(DATA)).payload == message(b"first")
    begun = time.monotonic()
    await until(lambda: bool(expired) and expired[-1] > begun + 0.2)
    more.set()
    assert (await caller.hear(DATA)).payload == message(b"second")
    assert b"grpc-status\x010" in await caller.status()
    caller.close()
    await front.stop(0)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_who_does_not_read_is_not_read_either(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    async def flood() -> None:
        front = front_of(Counting())
        wide = (settings(window=2**31 - 1), credit(0, 2**31 - 2**16))
        caller = await caller_of(await front.start(), PREFACE, *wide)
        caller._reader._transport.pause_reading()  # type: ignore[attr-defined] # white box: of asyncio's streams
        numbers = range(1, 1001, 2)
        for number in numbers:
            caller.say(request(number), frame(DATA, END_STREAM, number, message(bytes(2**15))))
        await until(lambda: any(connection._out.paused for connection in front._connections))
        (connection,) = front._connections
        transport = cast("asyncio.Transport", connection._output)  # white box, as above
        assert not transport.is_reading()
        caller._reader._transport.resume_reading()  # type: ignore[attr-defined] # as above
        for _ in numbers:
            assert b"grpc-status\x010" in await caller.status()
        assert transport.is_reading()
        caller.close()
        await front.stop(0)

    run(flood())


async def test_numbers_left_out_are_no_calls_that_were_not_cancelled(
    monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    monkeypatch.setattr(server, "FREE_RESETS", 10)
    caller.say(*(request(number) + frame(RST, 0, number, bytes(4)) for number in range(1, 2401, 200)))
    assert struct.unpack(">LL", (await caller.hear(GOAWAY)).payload)[1] == CALM


async def test_metadata_that_is_no_base64_spoils_nothing_else(caller: Caller) -> None:
    value = b"\x00\x05x-bin\x02\xc3\xa9"
    head = frame(HEADERS, END_HEADERS, 1, block(REQUEST) + value)
    caller.say(head, frame(DATA, END_STREAM, 1, message(b"x")))
    assert (await caller.hear(DATA)).payload == message(b"x")


async def test_a_stop_waits_for_replies_that_the_windows_hold_back() -> None:
    front = front_of(Counting())
    caller = await caller_of(await front.start(), PREFACE, settings(window=10), request(1))
    caller.say(frame(DATA, END_STREAM, 1, message(bytes(30))))
    assert len((await caller.hear(DATA)).payload) == 10
    stopping = asyncio.create_task(front.stop(2 * LONG_S))
    await caller.hear(GOAWAY)
    caller.say(credit(1, 100))
    assert len((await caller.hear(DATA)).payload) == 25
    assert b"grpc-status\x010" in await caller.status()
    await asyncio.wait_for(stopping, LONG_S)
    caller.close()


async def test_a_control_call_whose_caller_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_controls, "MAX_UNREAD", 100)

    async def many(_: bytes, _context: object) -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(50)
        await asyncio.sleep(10)

    handlers = grpc.method_handlers_generic_handler(
        "test.Service",
        {"Many": grpc.unary_stream_rpc_method_handler(many)},  # type: ignore[arg-type] # aio's
    )
    front = NativeListener(
        "127.0.0.1:0",
        (HOT,),
        Counting(),
        (lambda server: server.add_generic_rpc_handlers((handlers,)),),
        ListenerLimits(),
    )
    caller = await caller_of(await front.start(), PREFACE, settings(window=10))
    head = block([*(dict(REQUEST) | {":path": "/test.Service/Many"}).items()])
    caller.say(frame(HEADERS, END_HEADERS, 1, head), frame(DATA, END_STREAM, 1, message(b"")))
    await caller.hear(DATA)
    await until(lambda: not calls_of(front))
    caller.say(credit(1, 10_000))
    assert b"grpc-status\x011" in await caller.status()
    caller.close()
    await front.stop(0)


async def test_control_calls_that_cannot_be_carried_say_nothing_of_what_is_behind() -> None:
    front = front_of(Counting())
    async with aio.insecure_channel(f"127.0.0.1:{await front.start()}") as channel:
        await front._controls.stop(0)
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Service/Control")(b"", timeout=LONG_S)
    await front.stop(0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the server does not answer control calls now"


async def test_more_of_a_message_than_its_head_declares_ends_the_call_at_once(
    caller: Caller, front: NativeListener
) -> None:
    caller.say(request(1), frame(DATA, 0, 1, message(b"x")), frame(DATA, 0, 1, bytes(100)))
    assert b"grpc-status\x0213" in await caller.status()
    assert front._unfinished == 0


async def test_a_reply_of_several_messages_counts_once() -> None:
    async def lasting(_: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    handlers = grpc.method_handlers_generic_handler(
        "test.Service",
        {"Lasting": grpc.unary_stream_rpc_method_handler(lasting)},  # type: ignore[arg-type] # aio's
    )
    front = NativeListener(
        "127.0.0.1:0",
        (HOT,),
        Counting(),
        (lambda server: server.add_generic_rpc_handlers((handlers,)),),
        ListenerLimits(max_streams=2),
    )
    caller = await caller_of(await front.start(), PREFACE, settings())
    head = block([*(dict(REQUEST) | {":path": "/test.Service/Lasting"}).items()])
    for number in (1, 3):
        caller.say(frame(HEADERS, END_HEADERS, number, head), frame(DATA, END_STREAM, number, message(b"")))
        assert (await caller.hear(DATA)).stream == number
    caller.say(request(5))
    assert (await caller.hear(RST)).stream == 5
    caller.close()
    await front.stop(0)


async def test_the_settings_of_a_lost_connection_are_not_waited_for(caller: Caller, front: NativeListener) -> None:
    await until(lambda: bool(front._connections))
    (late,) = front._connections.values()  # white box: it would keep the connection
    caller.close()
    await until(lambda: not front._connections)
    assert late.cancelled()


async def test_who_reads_nothing_for_longer_than_any_call_may_take_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_listener, "SWEEP_S", 0.05)
    front = NativeListener("127.0.0.1:0", (HOT,), Counting(), (), ListenerLimits(max_deadline_s=0.5))
    wide = (settings(window=2**31 - 1), credit(0, 2**31 - 2**16))
    caller = await caller_of(await front.start(), PREFACE, *wide)
    caller._reader._transport.pause_reading()  # type: ignore[attr-defined] # white box: of asyncio's streams
    await until(lambda: bool(front._connections))
    for number in range(1, 1001, 2):
        caller.say(request(number), frame(DATA, END_STREAM, number, message(bytes(2**15))))
    await until(lambda: not front._connections)
    caller._writer.transport.abort()  # white box: it has written more than anyone takes
    await front.stop(0)
