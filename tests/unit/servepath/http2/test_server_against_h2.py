"""A server's side against h2, another HTTP/2: whatever frames a caller sends, both judge them alike."""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from servepath.http2.grpc_server import GrpcServerConnection
from servepath.http2.request_headers import RequestHeaders
from servepath.http2.unary_call import UnaryCall
from servepath.http2.write_coalescer import WriteCoalescer
from services.dataplane.listener import ListenerLimits
from tests.examples import examples
from tests.unit.servepath.http2.scripted_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    Frame,
    Written,
    block,
    credit,
    frame,
    frames_of,
    message,
    settings,
)

ENDED = END_HEADERS | END_STREAM
X = message(b"x")
REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Service/Hot"),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
WHOLE = block(REQUEST)


class Step(NamedTuple):
    """What a caller sends, or (without data) the number of a call that the server answers."""

    name: str
    data: bytes = b""
    answers: int = 0


class FakeFront:
    """Takes calls and leaves them unanswered until a step says so."""

    def __init__(self) -> None:
        self.limits = ListenerLimits(max_streams=100)
        self.stopping = False

    def opened(self, connection: GrpcServerConnection) -> None:
        """Nothing is bounded here."""

    closed = opened

    def begin(self, connection: GrpcServerConnection, number: int, headers: RequestHeaders) -> UnaryCall:
        return UnaryCall(self, connection, number, headers)

    def read(self) -> None:
        """Nothing is handed over."""

    idle = read

    def hold_frames(self, size: int) -> None:
        """Nothing is bounded here."""

    def hold(self, size: int) -> bool:
        return size < 2**20

    def arrived(self, call: UnaryCall) -> None:
        """It waits."""

    withdraw = arrived


class Ours:
    """Our server's side of a connection."""

    def __init__(self) -> None:
        self._coalescer = WriteCoalescer(lambda flush: flush())
        self._output = Written()
        self._connection = GrpcServerConnection(FakeFront(), self._coalescer)
        self._connection.start(self._output)

    def take(self, step: Step) -> list[Frame]:
        """Return what it writes."""
        with self._coalescer:
            if step.answers:
                self._connection.end(step.answers, StatusCode.DEADLINE_EXCEEDED, "late")
            else:
                self._connection.receive(step.data)
        written, self._output.written = self._output.written, b""
        return frames_of(written)


class Theirs:
    """h2's."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._h2.local_settings.update(
            {
                SettingCodes.HEADER_TABLE_SIZE: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1,
                SettingCodes.MAX_FRAME_SIZE: 2**20,
                SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            }
        )
        self._h2.initiate_connection()
        self._h2.data_to_send()

    def verdict(self, data: bytes) -> str:
        try:
            self._h2.receive_data(data)
        except ProtocolError:
            return "connection"
        return verdict_of(frames_of(self._h2.data_to_send()))

    def follow(self, written: Sequence[Frame]) -> None:
        """End streams as our server did."""
        for sent in written:
            if sent.kind == HEADERS and sent.flags & END_STREAM:
                self._h2.send_headers(sent.stream, [(":status", "200")], end_stream=True)
        self._h2.data_to_send()


def verdict_of(written: Sequence[Frame]) -> str:
    """Return what a server made of a step: ends it the connection, a stream, or nothing."""
    if any(sent.kind == GOAWAY for sent in written):
        return "connection"
    return "stream" if any(sent.kind == RST for sent in written) else "accepted"


def judged(steps: Sequence[Step]) -> tuple[str, str, str]:
    """Return the first step that both judge differently, or the last, and what ours and h2 make of it.

    A step is late where our server has ended its stream and the caller has not.
    """
    ours, theirs = Ours(), Theirs()
    greeting = Step("greeting", PREFACE + settings() + frame(SETTINGS, ACK, 0))
    verdicts, ours_ended, ended = ("", "accepted", "accepted"), set[int](), set[int]()
    for step in (greeting, *steps):
        late = int.from_bytes(step.data[5:9], "big") in ours_ended - ended
        written = ours.take(step)
        verdict = theirs.verdict(step.data) if step.data else "accepted"
        verdicts = (f"late {step.name}" if late else step.name, verdict_of(written), verdict)
        if verdicts[1:] == ("accepted", "accepted"):
            theirs.follow(written)
        elif verdicts[1:] != ("stream", "stream"):
            break
        ours_ended |= ended_by(written)
        ended |= ended_by(frames_of(step.data.removeprefix(PREFACE)))
    return verdicts


def ended_by(sent: Sequence[Frame]) -> set[int]:
    return {one.stream for one in sent if one.kind == RST or (one.kind in {DATA, HEADERS} and one.flags & END_STREAM)}


def headers(number: int, flags: int = END_HEADERS, *, name: str = "request", content: bytes = WHOLE) -> Step:
    return Step(name, frame(HEADERS, flags, number, content))


def data(number: int, flags: int = 0, payload: bytes = X) -> Step:
    return Step("DATA", frame(DATA, flags, number, payload))


def request_with(*more: tuple[str, str], without: str = "") -> bytes:
    return block([*(pair for pair in REQUEST if pair[0] != without), *more])


MALFORMED = [
    request_with(("X-Key", "a")),
    request_with(("x key", "a")),
    request_with(("x-key", "a\n")),
    request_with(("connection", "close")),
    request_with(("upgrade", "h2c")),
    request_with(("te", "deflate")),
    request_with((":path", "/")),
    request_with(without=":path"),
    request_with(without=":scheme"),
    request_with(without=":method"),
    block([(":status", "200"), *REQUEST]),
    block([(":test", "a"), *REQUEST]),
    block([(":path", "/"), *REQUEST]),
]
LENIENT = [request_with(("x-key", " a ")), request_with(without=":authority")]
TRAILERS = block([("x-key", "a")])
REFUSED = [headers(1), Step("answer", answers=1)]
RESET = [headers(1), Step("RST_STREAM", frame(RST, 0, 1, bytes(4)))]


def in_parts(first: int, kind: int, add_done_callback: int) -> Step:
    return Step(
        "block in parts",
        frame(HEADERS, END_STREAM, first, WHOLE[:9]) + frame(kind, END_HEADERS, add_done_callback, WHOLE[9:]),
    )


def blocks(number: int) -> list[Step]:
    """Return a HEADERS frame of each name that ends its stream."""
    return [
        headers(number, ENDED, name="malformed", content=MALFORMED[0]),
        headers(number, ENDED, name="trailers", content=TRAILERS),
        headers(number, ENDED),
        headers(number, ENDED, name="lenient", content=LENIENT[0]),
        in_parts(number, CONTINUATION, number),
    ]


# Where the two differ on purpose: at which step after which, what ours makes of it and what h2 does. Nowhere else.
LAST_WINDOW = Step("WINDOW_UPDATE", credit(1, 2**31 - 1))
SELFISH = Step("PRIORITY on itself", frame(PRIORITY, 0, 1, struct.pack(">LB", 1, 1)))
DIFFERENCES = [
    # RFC 9113, 8.1.1: a stream error; behind a proxy the other streams may be somebody else's.
    *((step.name, [step], "stream", "connection") for step in blocks(1)[:2]),
    *((step.name, [headers(1), step], "stream", "connection") for step in blocks(1)[2:]),
    # RFC 9113, 5.1 and 5.4.1: a stream error may be one of the connection, and no proxy passes these on.
    ("DATA", [*RESET, data(1)], "connection", "stream"),
    *((step.name, [*RESET, step], "connection", "stream") for step in blocks(1)),
    ("WINDOW_UPDATE", [headers(1), LAST_WINDOW], "connection", "stream"),
    # RFC 9113, 5.1: of a stream that was ended here first the rest was on its way, whatever it is.
    *(
        (f"late {step.name}", [*REFUSED, step], "accepted", "connection")
        for step in blocks(1)
        if step.name != "trailers"
    ),
    ("late WINDOW_UPDATE", [*REFUSED, LAST_WINDOW], "accepted", "stream"),
    # RFC 9113, 6.10 and 6.4: errors of the connection.
    (
        "CONTINUATION",
        [*RESET, headers(3), Step("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1))],
        "connection",
        "stream",
    ),
    ("RST_STREAM", [headers(1), Step("RST_STREAM", frame(RST, 0, 3, bytes(4)))], "connection", "accepted"),
    # RFC 9113, 5.3: priorities are no more.
    ("PRIORITY on itself", [SELFISH], "accepted", "connection"),
    ("late PRIORITY on itself", [*REFUSED, SELFISH], "accepted", "connection"),
    # gRPC lets a caller send white space, and nothing reads where a request was meant to go.
    *(("lenient", [headers(1, name="lenient", content=fields)], "accepted", "connection") for fields in LENIENT),
]
KNOWN = {(name, ours, theirs) for name, _, ours, theirs in DIFFERENCES}


@pytest.mark.parametrize(("name", "steps", "ours", "theirs"), DIFFERENCES)
def test_where_it_differs_from_h2_is_known(name: str, steps: list[Step], ours: str, theirs: str) -> None:
    assert judged(steps) == (name, ours, theirs)


NUMBERS = st.sampled_from([1, 1, 3, 3, 5, 7])
ANY = st.sampled_from([0, 1, 1, 2, 3, 3, 5, 7])
FLAGS = st.sampled_from([END_HEADERS, ENDED])
SIZES = st.sampled_from([4, 5, 6])
SETTING = st.sampled_from(
    [{"push": n} for n in (0, 1, 2)]
    + [{"window": n} for n in (0, 10, 2**31 - 1, 2**31)]
    + [{"frame": n} for n in (2**14 - 1, 2**14, 2**24 - 1, 2**24)]
    + [{"table": n} for n in (0, 100, 4096)]
    + [{"streams": 1}, {"list": 100}]
)
STEPS = st.one_of(
    st.builds(headers, NUMBERS, FLAGS),
    st.builds(headers, NUMBERS, FLAGS),
    st.builds(headers, ANY, FLAGS),
    st.builds(headers, NUMBERS, FLAGS, name=st.just("malformed"), content=st.sampled_from(MALFORMED)),
    st.builds(headers, NUMBERS, FLAGS, name=st.just("trailers"), content=st.just(TRAILERS)),
    st.builds(data, NUMBERS, st.sampled_from([0, END_STREAM, END_STREAM]), st.sampled_from([X, X, b"", X[:3]])),
    st.builds(data, ANY, st.just(PADDED), st.sampled_from([b"", b"\0", b"\1", b"\1\0", b"\2\0"])),
    st.builds(lambda n, size: Step("RST_STREAM", frame(RST, 0, n, bytes(size))), ANY, st.sampled_from([4, 4, 4, 3])),
    st.builds(lambda n, size: Step("PRIORITY", frame(PRIORITY, 0, n, bytes(size))), ANY, SIZES),
    st.just(SELFISH),
    st.builds(
        lambda n, more: Step("WINDOW_UPDATE", credit(n, more)), ANY, st.sampled_from([0, 1, 2**31 - 1, 2**31 - 1])
    ),
    st.builds(lambda values: Step("SETTINGS", settings(**values)), SETTING),
    st.builds(lambda n, size: Step("SETTINGS", frame(SETTINGS, 0, n, bytes(size))), ANY, st.sampled_from([0, 5])),
    st.builds(lambda n, size: Step("PING", frame(PING, 0, n, bytes(size))), ANY, st.sampled_from([8, 8, 7])),
    st.builds(lambda n: Step("PUSH_PROMISE", frame(PUSH, END_HEADERS, n, bytes(4) + WHOLE)), NUMBERS),
    st.builds(lambda n: Step("CONTINUATION", frame(CONTINUATION, END_HEADERS, n, b"")), ANY),
    st.builds(lambda n: Step("unknown", frame(0x42, 0xFF, n, b"what")), ANY),
    st.builds(in_parts, NUMBERS, st.sampled_from([CONTINUATION, CONTINUATION, DATA]), NUMBERS),
    st.builds(headers, NUMBERS, FLAGS, name=st.just("lenient"), content=st.sampled_from(LENIENT)),
    st.builds(lambda n: Step("answer", answers=n), NUMBERS),
)


# What streams may have come to before a caller sends something odd.
BEFORE: dict[str, Callable[[int], list[Step]]] = {
    "open": lambda n: [headers(n)],
    "half-closed": lambda n: [headers(n), data(n, END_STREAM)],
    "answered": lambda n: [headers(n), data(n, END_STREAM), Step("answer", answers=n)],
    "refused": lambda n: [headers(n), Step("answer", answers=n)],
    "reset": lambda n: [headers(n), Step("RST_STREAM", frame(RST, 0, n, bytes(4)))],
    "refused at its end": lambda n: [headers(n), data(n, END_STREAM, X[:3])],
    "left out": lambda _: [],
}
STATES = st.lists(st.sampled_from(sorted(BEFORE)), max_size=4)


@hypothesis_settings(max_examples=examples(400))
@given(STATES, st.lists(STEPS, min_size=1, max_size=3))
def test_whatever_a_caller_sends_h2_judges_it_alike_or_differs_as_is_known(
    states: list[str], steps: list[Step]
) -> None:
    before = [step for number, state in enumerate(states) for step in BEFORE[state](2 * number + 1)]
    name, ours, theirs = judged([*before, *steps])
    assert ours == theirs or (name, ours, theirs) in KNOWN
