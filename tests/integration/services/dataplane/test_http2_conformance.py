"""RFC 9113 and RFC 7541, rule by rule, as a caller sees them that writes its frames by hand (docs/adr/0011)."""

import struct
from collections.abc import AsyncIterator, Callable

import hpack
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from servepath.http2 import server
from services.dataplane.listener import ListenerLimits, RawCall
from services.dataplane.native_listener import NativeListener
from tests.integration.services.dataplane.raw_caller import ACK, HOT, REQUEST, Caller, caller_of, request
from tests.unit.servepath.http2.scripted_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    block,
    credit,
    frame,
    message,
    settings,
)

HELD = "/test.Service/Held"
CHECK = "/grpc.health.v1.Health/Check"
ENDED = END_HEADERS | END_STREAM
PROTOCOL, FLOW_CONTROL, CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 1, 3, 5, 6, 7, 8, 9, 11
X = message(b"x")
MAX_FRAME = 2**20  # what our SETTINGS say
END_9 = frame(DATA, END_STREAM, 9, X)


def answer(raws: list[RawCall]) -> None:
    for raw in raws:
        if raw.method == HOT:
            raw.reply(raw.payload)


@pytest.fixture
async def front() -> AsyncIterator[NativeListener]:
    def add_health(server: object) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)

    front = NativeListener("127.0.0.1:0", (HOT, HELD), answer, (add_health,), ListenerLimits(max_deadline_s=60))
    front.port = await front.start()  # type: ignore[attr-defined] # for the callers below
    yield front
    await front.stop(0)


@pytest.fixture
async def caller(front: NativeListener) -> AsyncIterator[Caller]:
    """A caller whose stream 1 was answered, 3 waits for its answer, 5 it reset and 7 is open."""
    caller = await caller_of(front.port, PREFACE, settings(), frame(SETTINGS, ACK, 0))  # type: ignore[attr-defined]
    caller.say(request(1), frame(DATA, END_STREAM, 1, X), asking(3, path=HELD), frame(DATA, END_STREAM, 3, X))
    caller.say(request(5), frame(RST, 0, 5, struct.pack(">L", CANCEL)), request(7))
    assert (await caller.hear(DATA)).payload == X
    await caller.status()
    yield caller
    caller.close()


def block_of(**changed: str | None) -> bytes:
    """Return a request's block with some fields changed or left out; `te`, `method`, ..."""
    own = {name.removeprefix(":").replace("-", "_"): (name, value) for name, value in REQUEST}
    pairs = [(name, changed.get(key, value)) for key, (name, value) in own.items()]
    return block([(name, value) for name, value in pairs if value is not None])


def asking(number: int, flags: int = END_HEADERS, **changed: str | None) -> bytes:
    return frame(HEADERS, flags, number, block_of(**changed))


def with_fields(*more: tuple[str, str], first: tuple[tuple[str, str], ...] = ()) -> bytes:
    return frame(HEADERS, END_HEADERS, 9, block((*first, *REQUEST, *more)))


async def error_of(caller: Caller) -> int:
    """Return the error of the GOAWAY with which the connection is closed."""
    code: int = struct.unpack(">LL", (await caller.hear(GOAWAY)).payload)[1]
    assert await caller.closed()
    return code


async def answered(caller: Caller, number: int) -> bool:
    """Return whether the next message is the answer to a call."""
    heard = await caller.hear(DATA)
    return (heard.stream, heard.payload) == (number, X)


BREAKS = {
    "4.2 a frame above our size": (struct.pack(">LBL", MAX_FRAME + 1, HEADERS, 9)[1:5] + bytes(5), FRAME_SIZE),
    "5.1 DATA on an idle stream": (frame(DATA, 0, 9, X), PROTOCOL),
    "5.1 RST_STREAM on an idle stream": (frame(RST, 0, 9, bytes(4)), PROTOCOL),
    "5.1 WINDOW_UPDATE on an idle stream": (credit(9, 1), PROTOCOL),
    "5.1 CONTINUATION on an idle stream": (frame(CONTINUATION, END_HEADERS, 9, b""), PROTOCOL),
    "5.1 DATA on a half-closed stream": (frame(DATA, 0, 3, X), CLOSED),
    "5.1 the end of a half-closed stream": (frame(DATA, END_STREAM, 3), CLOSED),
    "5.1 trailers on a half-closed stream": (frame(HEADERS, ENDED, 3, block([("a", "b")])), CLOSED),
    "5.1 HEADERS on a half-closed stream": (request(3), CLOSED),
    "5.1 DATA after RST_STREAM": (frame(DATA, 0, 5, X), CLOSED),
    "5.1 DATA on a closed stream": (frame(DATA, 0, 1, X), CLOSED),
    "5.1 the end of a closed stream": (frame(DATA, END_STREAM, 1), CLOSED),
    "5.1 CONTINUATION on a closed stream": (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
    "5.1.1 HEADERS on a closed stream": (request(1), PROTOCOL),
    "5.1.1 HEADERS after RST_STREAM": (request(5), PROTOCOL),
    "5.1.1 a stream of the server's": (request(10), PROTOCOL),
    "6.1 DATA on stream 0": (frame(DATA, 0, 0, X), PROTOCOL),
    "6.1 DATA on a stream that was left out": (request(13) + frame(DATA, 0, 11, X), CLOSED),
    "6.1 more padding than frame": (request(9) + frame(DATA, PADDED, 9, b"\x05abcd"), PROTOCOL),
    "6.2 HEADERS on stream 0": (request(0), PROTOCOL),
    "6.2 another frame in the midst of a block": (
        frame(HEADERS, 0, 9, b"") + frame(PRIORITY, 0, 9, bytes(5)),
        PROTOCOL,
    ),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.3 PRIORITY that is too short": (frame(PRIORITY, 0, 7, bytes(4)), FRAME_SIZE),
    "6.3 PRIORITY that is too long": (frame(PRIORITY, 0, 9, bytes(6)), FRAME_SIZE),
    "6.4 RST_STREAM of the wrong size": (frame(RST, 0, 7, bytes(3)), FRAME_SIZE),
    "6.5 SETTINGS of the wrong size": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE),
    "6.5.2 ENABLE_PUSH of 2": (settings(push=2), PROTOCOL),
    "6.5.2 ENABLE_PUSH of 2^32-1": (settings(push=2**32 - 1), PROTOCOL),
    "6.5.2 a window above 2^31-1": (settings(window=2**31), FLOW_CONTROL),
    "6.5.2 a frame size below 2^14": (settings(frame=2**14 - 1), PROTOCOL),
    "6.5.2 a frame size above 2^24-1": (settings(frame=2**24), PROTOCOL),
    "6.6 PUSH_PROMISE": (frame(PUSH, END_HEADERS, 7, bytes(4)), PROTOCOL),
    "6.7 PING of the wrong size": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE),
    "6.9 WINDOW_UPDATE of nothing": (credit(0, 0), PROTOCOL),
    "6.9 WINDOW_UPDATE of nothing on a stream": (credit(7, 0), PROTOCOL),
    "6.9.1 the connection's window beyond 2^31-1": (credit(0, 2**31 - 1), FLOW_CONTROL),
    "6.9.1 a stream's window beyond 2^31-1": (credit(7, 2**31 - 1), FLOW_CONTROL),
    "6.9.1 a stream's window beyond 2^31-1 bit by bit": (credit(7, 2**30) + credit(7, 2**30), FLOW_CONTROL),
    "6.9.2 a stream's window beyond 2^31-1 by SETTINGS": (credit(7, 2**30) + settings(window=2**30), FLOW_CONTROL),
    "6.10 CONTINUATION of another stream": (frame(HEADERS, 0, 9, b"") + frame(CONTINUATION, 4, 11, b""), PROTOCOL),
    "6.10 CONTINUATION of nothing": (request(9) + frame(CONTINUATION, END_HEADERS, 9, b""), PROTOCOL),
    "8.1 HEADERS that are no trailers": (request(7), PROTOCOL),
    "7541 2.3.3 an entry that is not there": (frame(HEADERS, END_HEADERS, 9, b"\xff\x00"), COMPRESSION),
    "7541 4.2 a table size in the midst of a block": (frame(HEADERS, ENDED, 9, b"\x83\x86\x20"), COMPRESSION),
    "7541 6.3 a table above ours": (frame(HEADERS, ENDED, 9, b"\x3f\xe1\x1f\x83"), COMPRESSION),
}


@pytest.mark.parametrize(("said", "code"), BREAKS.values(), ids=BREAKS)
async def test_what_breaks_http2_is_named_and_ends_the_connection(caller: Caller, said: bytes, code: int) -> None:
    caller.say(said)
    assert await error_of(caller) == code


MALFORMED = {
    "8.2.1 an upper-case name": with_fields(("X-Key", "a")),
    "8.2.1 a space in a name": with_fields(("x key", "a")),
    "8.2.1 a name that is not ASCII": with_fields(("x-k\xe9y", "a")),
    "8.2.1 a name without a letter": with_fields(("", "a")),
    "8.2.1 a line end in a value": with_fields(("x-key", "a\r\nb")),
    "8.2.1 NUL in a value": with_fields(("x-key", "a\0")),
    "8.2.2 connection": with_fields(("connection", "keep-alive")),
    "8.2.2 keep-alive": with_fields(("keep-alive", "5")),
    "8.2.2 proxy-connection": with_fields(("proxy-connection", "keep-alive")),
    "8.2.2 transfer-encoding": with_fields(("transfer-encoding", "chunked")),
    "8.2.2 upgrade": with_fields(("upgrade", "h2c")),
    "8.2.2 te that is not trailers": asking(9, te="trailers, deflate"),
    "8.3 an unknown pseudo-header": with_fields(first=((":test", "a"),)),
    "8.3 a response's pseudo-header": with_fields(first=((":status", "200"),)),
    "8.3 a pseudo-header after a field": with_fields((":authority", "b")),
    "8.3.1 no :method": asking(9, method=None),
    "8.3.1 no :scheme": asking(9, scheme=None),
    "8.3.1 no :path": asking(9, path=None),
    "8.3.1 an empty :path": asking(9, path=""),
    "8.3.1 :method twice": with_fields(first=((":method", "POST"),)),
    "8.3.1 :scheme twice": with_fields(first=((":scheme", "http"),)),
    "8.3.1 :path twice": with_fields(first=((":path", HOT),)),
    "8.3.1 :authority twice": with_fields(first=((":authority", "test"),)),
    "8.5 CONNECT without :authority": asking(9, method="CONNECT", authority=None, path=None, scheme=None),
    "8.1.1 less than content-length": with_fields(("content-length", "7")) + END_9,
    "8.1.1 more than content-length": with_fields(("content-length", "5")) + END_9,
    "8.1.1 more than content-length bit by bit": with_fields(("content-length", "5")) + frame(DATA, 0, 9, X) + END_9,
    "8.1.1 less than content-length with trailers": with_fields(("content-length", "7"))
    + frame(DATA, 0, 9, X)
    + frame(HEADERS, ENDED, 9, block([("a", "b")])),
    "8.1.1 content-length without content": frame(HEADERS, ENDED, 9, block((*REQUEST, ("content-length", "1")))),
    "8.1.1 two content-lengths": with_fields(("content-length", "6"), ("content-length", "7")),
    "8.1.1 content-length that is no number": with_fields(("content-length", "+6")),
    "8.1 a pseudo-header in trailers": request(9) + frame(HEADERS, ENDED, 9, block([(":path", "/")])),
    "8.1 an upper-case name in trailers": request(9) + frame(HEADERS, ENDED, 9, block([("X-Key", "a")])),
}


@pytest.mark.parametrize("said", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_ends_its_stream_and_no_other(caller: Caller, said: bytes) -> None:
    caller.say(said, request(15), frame(DATA, END_STREAM, 15, X))
    heard = await caller.hear(RST)
    assert (heard.stream, heard.payload) == (9, struct.pack(">L", PROTOCOL))
    assert await answered(caller, 15)


WHOLE = block(REQUEST)
ACCEPTED = {
    "4.1 a frame of an unknown type": frame(0x42, 0xFF, 0, b"what") + request(9),
    "5.1 WINDOW_UPDATE on a closed stream": credit(1, 1) + request(9),
    "5.1 WINDOW_UPDATE on a half-closed stream": credit(3, 1) + request(9),
    "5.1 RST_STREAM on a closed stream": frame(RST, 0, 1, bytes(4)) + frame(RST, 0, 5, bytes(4)) + request(9),
    "5.3 PRIORITY on any stream": b"".join(frame(PRIORITY, 0, n, bytes(5)) for n in (1, 3, 5, 7, 9, 99)) + request(9),
    "5.3 PRIORITY that depends on itself": frame(PRIORITY, 0, 9, struct.pack(">LB", 9, 1)) + request(9),
    "5.3 HEADERS that depend on themselves": frame(
        HEADERS, END_HEADERS | PRIORITISED, 9, struct.pack(">LB", 9, 1) + WHOLE
    ),
    "6.1 padding": request(9) + frame(DATA, PADDED, 9, b"\x04" + bytes(4)),
    "6.2 padding": frame(HEADERS, END_HEADERS | PADDED, 9, b"\x04" + WHOLE + bytes(4)),
    "6.5 an unknown setting": frame(SETTINGS, 0, 0, struct.pack(">HL", 99, 7)) + request(9),
    "6.5.2 push off and on": settings(push=0) + settings(push=1) + request(9),
    "6.10 several CONTINUATION frames": frame(HEADERS, 0, 9, WHOLE[:5])
    + b"".join(frame(CONTINUATION, 0, 9, WHOLE[at : at + 1]) for at in range(5, len(WHOLE)))
    + frame(CONTINUATION, END_HEADERS, 9, b""),
    "7541 4.2 a table size at the head of a block": frame(HEADERS, END_HEADERS, 9, b"\x20" + WHOLE[1:]),
    "7541 4.2 two table sizes at the head of a block": frame(HEADERS, END_HEADERS, 9, b"\x20\x20" + WHOLE[1:]),
    "8.1.1 the right content-length": with_fields(("content-length", "6")),
    "8.1.1 the right content-length twice": with_fields(("content-length", "6"), ("content-length", "6")),
    "8.2.1 white space round a value": with_fields(("x-key", " a ")),
    "8.2.1 a value that is not ASCII": with_fields(("x-key", "\xe9\t")),
    "8.2.2 te: trailers in capitals": asking(9, te="Trailers"),
}


@pytest.mark.parametrize("said", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_http2_allows_is_accepted(caller: Caller, said: bytes) -> None:
    caller.say(said, END_9)
    assert await answered(caller, 9)


async def test_4_2_headers_may_be_as_long_as_our_settings_say(caller: Caller) -> None:
    said = with_fields(*[("x-key", "a" * 4000)] * 10)
    assert len(said) > 2**14
    caller.say(said, END_9, request(11), frame(DATA, END_STREAM, 11, X))
    assert b"grpc-status\x018" in await caller.status()
    assert await answered(caller, 11)


async def test_until_our_settings_are_acknowledged_a_table_may_have_the_default_size(front: NativeListener) -> None:
    caller = await caller_of(front.port, PREFACE, settings())  # type: ignore[attr-defined] # set by the fixture
    caller.say(frame(HEADERS, END_HEADERS, 9, b"\x20\x3f\xe1\x1f" + WHOLE[1:]), END_9)
    assert await answered(caller, 9)
    caller.close()


async def test_a_call_that_was_refused_before_its_end_may_go_on_to_it_and_no_further(caller: Caller) -> None:
    caller.say(asking(9, content_type="text/html"))
    assert b"415" in await caller.status()
    caller.say(frame(DATA, 0, 9, X), credit(9, 1), frame(HEADERS, ENDED, 9, block([("a", "b")])))
    caller.say(asking(11, content_type="text/html"), frame(DATA, END_STREAM, 11, X), request(13))
    caller.say(frame(DATA, END_STREAM, 13, X))
    assert await answered(caller, 13)
    caller.say(frame(DATA, 0, 9, X))
    assert await error_of(caller) == CLOSED


async def test_what_comes_of_refused_calls_is_ignored_even_where_they_were_too_many_to_remember(
    caller: Caller,
) -> None:
    numbers = range(9, 9 + 2 * 1500, 2)
    caller.say(*(asking(number, content_type="text/html") for number in numbers))
    caller.say(*(frame(DATA, END_STREAM, number, X) for number in numbers))
    caller.say(request(9001), frame(DATA, END_STREAM, 9001, X))
    assert await answered(caller, 9001)


ASK_TOO_MUCH = {
    "refused": b"".join(request(number) for number in range(9, 61, 2)),
    "malformed": b"".join(asking(number, path="") for number in range(9, 61, 2)),
    "too long": b"".join(
        frame(HEADERS, ENDED, number, block((*REQUEST, ("content-length", "1")))) for number in range(9, 61, 2)
    ),
}


@pytest.mark.parametrize("said", ASK_TOO_MUCH.values(), ids=ASK_TOO_MUCH)
async def test_streams_that_are_refused_or_malformed_count_as_if_they_were_reset(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server, "FREE_RESETS", 10)
    front = NativeListener("127.0.0.1:0", (HOT, HELD), answer, (), ListenerLimits(max_streams=2))
    caller = await caller_of(await front.start(), PREFACE, settings(), said)
    assert await error_of(caller) == CALM
    caller.close()
    await front.stop(0)


EMPTY = message(b"")
ASKED = {
    "answer": (request, X),
    "refusal": (lambda number: request(number, ("grpc-encoding", "gzip")), X),
    "415": (lambda number: asking(number, content_type="text/html"), b""),
    "control reply": (lambda number: asking(number, path=CHECK), EMPTY),
    "control refusal": (lambda number: asking(number, path="/test.Service/None"), EMPTY),
}


@pytest.mark.parametrize("sizes", [[0], [1], [4095], [4095, 100, 4096, 4095, 0]])
@pytest.mark.parametrize(("ask", "content"), ASKED.values(), ids=ASKED)
async def test_7541_4_2_after_a_lowered_table_the_next_block_says_that_none_is_used(
    caller: Caller, ask: Callable[[int], bytes], content: bytes, sizes: list[int]
) -> None:
    decoder, before = hpack.Decoder(), 4096
    for number, size in enumerate(sizes):
        stream = 9 + 2 * number
        caller.say(settings(table=size), ask(stream), frame(DATA, END_STREAM, stream, content))
        heard = await caller.hear(HEADERS)
        decoder.max_allowed_table_size = size  # from now on it insists
        assert ":status" in dict(decoder.decode(heard.payload))
        assert heard.payload.startswith(b"\x20") == (size < before)
        before = size
        while not heard.flags & END_STREAM:
            heard = await caller.hear(HEADERS)
            decoder.decode(heard.payload)


async def test_7541_4_2_holds_for_a_reply_that_waited_while_the_table_was_lowered(front: NativeListener) -> None:
    caller = await caller_of(front.port, PREFACE, settings(window=0))  # type: ignore[attr-defined] # set by the fixture
    decoder = hpack.Decoder()
    caller.say(request(9), END_9)
    decoder.decode((await caller.hear(HEADERS)).payload)
    caller.say(settings(table=10))
    assert (await caller.hear(SETTINGS)).flags == ACK
    decoder.max_allowed_table_size = 10
    caller.say(credit(9, 100))
    assert dict(decoder.decode((await caller.hear(HEADERS)).payload)) == {"grpc-status": "0"}
    caller.close()
