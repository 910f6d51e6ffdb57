"""A client's connection and a server's, joined in memory: no socket, no event loop."""

import struct
from collections import deque
from collections.abc import Sequence
from time import monotonic

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from servepath.http2.client import Connection
from servepath.http2.frames import literal, request_head
from servepath.http2.grpc_server import GrpcServerConnection
from servepath.http2.replies import Reply
from servepath.http2.request_headers import RequestHeaders
from servepath.http2.unary_call import UnaryCall
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.errors import BadInput
from services.dataplane.listener import ListenerLimits
from tests.unit.servepath.http2.scripted_peer import frames_of

METHOD = "/test.Service/Hot"
LIMIT = 2**21


class Pipe:
    """An output whose bytes wait until the test passes them on."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.waiting.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close


class Server:
    """Gives each message back, or refuses it where it is empty."""

    def __init__(self, max_streams: int) -> None:
        self.limits = ListenerLimits(max_message_bytes=LIMIT, max_streams=max_streams)
        self.stopping = False
        self.output = Pipe()
        self.connection = GrpcServerConnection(self, WriteCoalescer(lambda flush: flush()))
        self.connection.start(self.output)
        self.held = 0
        self._arrived: list[UnaryCall] = []

    def opened(self, connection: GrpcServerConnection) -> None:
        """Nothing is bounded here."""

    closed = opened

    def begin(self, connection: GrpcServerConnection, number: int, headers: RequestHeaders) -> UnaryCall:
        return UnaryCall(self, connection, number, headers)

    def arrived(self, call: UnaryCall) -> None:
        self._arrived.append(call)

    withdraw = arrived

    def read(self) -> None:
        calls, self._arrived = self._arrived, []
        for call in calls:
            if call.payload:
                call.reply(call.payload)
            else:
                call.fail(BadInput(f"{call.metadata['x-key']} sends nothing"))

    def idle(self) -> None:
        """Nobody waits for it."""

    def hold(self, size: int) -> bool:
        self.held += size
        return True

    def hold_frames(self, size: int) -> None:
        self.held += size


class Joined:
    """Both sides, and how the client's calls ended."""

    def __init__(self, max_streams: int = 1000) -> None:
        self.server = Server(max_streams)
        self.output = Pipe()
        self.opened = 0
        self.client = Connection(LIMIT, self._opened, lambda _: None)
        self.client.start(self.output)
        self.ends: dict[int, Reply] = {}

    def _opened(self) -> None:
        self.opened += 1

    def carry(self, size: int = 2**16) -> None:
        """Pass bytes on, in pieces of `size`, until both are silent."""
        while self.output.waiting or self.server.output.waiting:
            for pipe, side in ((self.output, self.server.connection), (self.server.output, self.client)):
                data = b"".join(pipe.waiting)
                pipe.waiting.clear()
                for begin in range(0, len(data), size):
                    side.receive(data[begin : begin + size])

    def ask(self, message: bytes) -> int:
        block = request_head(METHOD, "test") + literal("x-key", "somebody")

        def done(reply: Reply) -> None:
            assert number not in self.ends
            self.ends[number] = reply

        number = self.client.begin(block, message, done)
        return number


@pytest.mark.slow
@given(st.lists(st.sampled_from([1, 40, 16_379, 16_380, 70_000, 600_000]), min_size=1, max_size=20), st.data())
def test_messages_of_any_size_come_back_whole_wherever_their_bytes_are_cut(
    sizes: Sequence[int], data: st.DataObject
) -> None:
    joined = Joined()
    joined.carry()
    messages = {joined.ask(bytes([index]) * size): bytes([index]) * size for index, size in enumerate(sizes)}
    joined.carry(data.draw(st.sampled_from([100, 4097, 2**16, 2**21])))
    assert {number: reply.payload for number, reply in joined.ends.items()} == messages
    assert {reply.code for reply in joined.ends.values()} == {StatusCode.OK}
    assert (joined.server.held, joined.server.connection.open_streams) == (0, 0)


def test_the_client_is_opened_once_by_the_server_s_settings() -> None:
    joined = Joined()
    assert (joined.opened, joined.client.usable) == (0, False)
    joined.carry()
    assert (joined.opened, joined.client.usable) == (1, True)


def test_an_error_comes_back_with_its_code_and_text_and_metadata_are_read() -> None:
    joined = Joined()
    joined.carry()
    number = joined.ask(b"")
    joined.carry()
    reply = joined.ends[number]
    assert (reply.code, reply.details) == (StatusCode.INVALID_ARGUMENT, "somebody sends nothing")


@pytest.mark.parametrize("streams", [1, 3])
def test_the_client_is_full_at_as_many_calls_as_the_server_allows(streams: int) -> None:
    joined = Joined(streams)
    joined.carry()
    for _ in range(streams):
        assert not joined.client.full
        joined.ask(b"x")
    assert joined.client.full
    joined.carry()
    assert not joined.client.full


def test_a_lost_socket_ends_calls_on_both_sides() -> None:
    joined = Joined()
    joined.carry()
    number = joined.ask(b"x" * 100_000)
    joined.server.connection.receive(joined.output.waiting.popleft()[:1000])
    assert joined.server.connection.open_streams == 1
    joined.server.connection.lost()
    joined.client.lost()
    assert joined.ends[number].code is StatusCode.UNAVAILABLE
    assert (joined.server.held, joined.server.connection.open_streams) == (0, 0)


def test_a_reply_waits_until_the_caller_reads_again() -> None:
    joined = Joined()
    joined.carry()
    number = joined.ask(b"x")
    joined.server.connection.pause()
    joined.carry()
    assert (joined.ends, joined.server.connection.open_streams) == ({}, 1)
    joined.server.connection.resume()
    joined.carry()
    assert joined.ends[number].payload == b"x"
    assert joined.server.connection.open_streams == 0


def test_a_reply_that_waits_is_not_kept_when_the_socket_is_lost() -> None:
    joined = Joined()
    joined.carry()
    joined.ask(b"x")
    joined.server.connection.pause()
    joined.carry()
    joined.server.connection.lost()
    assert joined.server.connection.open_streams == 0


def test_a_caller_that_has_not_kept_up_for_longer_than_any_call_may_take_is_known() -> None:
    server = Joined().server
    late = monotonic() + 2 * server.limits.max_deadline_s
    assert not server.connection.unread(late)
    server.connection.pause()
    assert server.connection.unread(late)
    assert not server.connection.unread(monotonic())
    server.connection.resume()
    assert not server.connection.unread(late)


def test_the_last_call_that_a_goaway_names_does_not_rise() -> None:
    joined = Joined()
    joined.carry()
    first = joined.ask(b"x")
    joined.carry()
    joined.server.connection.leave()
    joined.ask(b"x")  # before the client has heard of it
    joined.carry()
    joined.server.connection.close()
    (goaway,) = frames_of(b"".join(joined.server.output.waiting))
    assert struct.unpack(">LL", goaway.payload) == (first, 0)
