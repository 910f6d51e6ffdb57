import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from servepath.http2 import client as http2
from servepath.http2 import connection_base
from servepath.http2.replies import Reply
from servepath.protocols.error_mapping import BY_CODE, translate
from tests.examples import examples
from tests.unit.servepath.http2.scripted_peer import (
    ACK,
    CONTINUATION,
    CREDIT,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    TRAILERS,
    Peer,
    answer,
    block,
    credit,
    frame,
    goodbye,
    message,
    settings,
)

ENDED = END_HEADERS | END_STREAM
NO_ERROR, PROTOCOL, FLOW_CONTROL, FRAME_SIZE, CANCEL, COMPRESSION, CALM = 0, 1, 3, 6, 8, 9, 11


def trailers(stream: int, **more: str) -> bytes:
    pairs = {"grpc-status": "0"} | {key.replace("_", "-"): value for key, value in more.items()}
    return frame(HEADERS, ENDED, stream, block(list(pairs.items())))


def head(stream: int, status: str = "200") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block([(":status", status)]))


def test_it_greets_with_no_table_no_push_and_full_windows() -> None:
    peer = Peer(greet=False)
    assert peer.output.written.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    said, more = peer.heard()
    assert dict(struct.iter_unpack(">HL", said.payload)) == {1: 0, 2: 0, 4: 2**31 - 1, 5: 2**20, 6: 2**17}
    assert (more.stream, more.payload) == (0, struct.pack(">L", 2**31 - 1 - 65535))


def test_it_is_usable_once_the_peer_has_said_its_settings_and_confirms_them() -> None:
    peer = Peer(greet=False)
    assert not peer.connection.usable
    peer.heard()
    peer.say(settings(streams=7))
    assert peer.connection.usable
    assert [(f.kind, f.flags, f.payload) for f in peer.heard()] == [(SETTINGS, ACK, b"")]


@pytest.mark.parametrize(
    "first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), goodbye(0), b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_a_peer_that_does_not_begin_with_its_settings_is_left(first: bytes) -> None:
    peer = Peer(greet=False)
    peer.say(first)
    assert peer.output.closed
    assert peer.opened == 1
    assert not peer.connection.usable


def test_a_call_is_its_headers_and_one_message_and_is_answered() -> None:
    peer = Peer()
    peer.heard()
    number = peer.begin(b"question")
    asked, data = peer.heard()
    assert (asked.kind, asked.flags, asked.stream, asked.payload) == (HEADERS, END_HEADERS, 1, b"\x20\x83")
    assert (data.kind, data.flags, data.stream, data.payload) == (DATA, END_STREAM, 1, message(b"question"))
    peer.say(answer(number, b"answer"))
    assert peer.reply(number) == Reply(StatusCode.OK, payload=b"answer", trailing=())


def test_a_call_after_a_lowered_table_says_again_that_none_is_used() -> None:
    peer = Peer()
    peer.begin()
    for table, expected in ((4096, b"\x83"), (100, b"\x20\x83"), (100, b"\x83"), (4096, b"\x83"), (0, b"\x20\x83")):
        peer.say(settings(table=table))
        peer.heard()
        peer.begin()
        assert peer.sent(HEADERS)[0].payload == expected


SCRIPT = b"".join(
    [
        settings(streams=100, window=100),
        frame(PING, 0, 0, b"01234567"),
        frame(HEADERS, END_HEADERS, 3, block([(":status", "103")])),
        answer(3, b"b" * 300),
        credit(1, 1000),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0x42, 0xFF, 9, b"unknown"),
        frame(HEADERS, 0, 1, block(HEAD)[:2]),
        frame(CONTINUATION, 0, 1, block(HEAD)[2:9]),
        frame(CONTINUATION, END_HEADERS, 1, block(HEAD)[9:]),
        frame(DATA, PADDED, 1, b"\x03" + message(b"answer")[:7] + bytes(3)),
        frame(DATA, 0, 1, b""),
        frame(DATA, 0, 1, message(b"answer")[7:]),
        frame(HEADERS, ENDED | PADDED | PRIORITISED, 1, b"\x02" + bytes(5) + block(TRAILERS) + bytes(2)),
        trailers(5, grpc_status="5", grpc_message="no%20such%20thing%3A%20%C3%BC%zz"),
        goodbye(5),
    ]
)


def played(parts: list[bytes]) -> tuple[dict[int, list[Reply]], bytes]:
    peer = Peer()
    for _ in range(4):
        peer.begin()
    for part in parts:
        peer.say(part)
    return peer.ends, peer.output.written


def test_a_conversation_is_understood_whole() -> None:
    ends, _ = played([SCRIPT])
    assert ends[1] == [Reply(StatusCode.OK, payload=b"answer")]
    assert ends[3] == [Reply(StatusCode.OK, payload=b"b" * 300)]
    assert [(reply.code, reply.details) for reply in ends[5]] == [(StatusCode.NOT_FOUND, "no such thing: \xfc%zz")]
    assert [(reply.code, reply.not_processed) for reply in ends[7]] == [(StatusCode.UNAVAILABLE, True)]


def test_a_conversation_is_understood_byte_by_byte() -> None:
    assert played([SCRIPT[at : at + 1] for at in range(len(SCRIPT))]) == played([SCRIPT])


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=20))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(SCRIPT)]
    assert played([SCRIPT[a:b] for a, b in pairwise(edges)]) == played([SCRIPT])


FRAMES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        frame,
        st.integers(0, 11),
        st.integers(0, 255),
        st.sampled_from([0, 1, 2, 3, 5, 7, 9, 2**31 - 1]),
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([message(b"x"), block(HEAD), block(TRAILERS), bytes(4), bytes(8)]),
            st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2**32 - 1)), max_size=3).map(
                lambda pairs: b"".join(struct.pack(">HL", *pair) for pair in pairs)
            ),
        ),
    ),
    st.sampled_from([1, 3, 5]).map(answer),
)


@pytest.mark.slow
@hypothesis_settings(max_examples=examples(1000))
@given(st.booleans(), st.lists(FRAMES, max_size=12), st.sampled_from([8, 70_000]))
def test_whatever_the_peer_sends_every_call_has_one_end_at_most_and_after_the_loss_exactly_one(
    greet: bool,  # noqa: FBT001 - hypothesis gives it
    parts: list[bytes],
    size: int,
) -> None:
    peer = Peer(greet=greet)
    if greet:
        for _ in range(3):
            peer.begin(bytes(size))
    for part in parts:
        peer.say(part)
        assert all(len(ends) <= 1 for ends in peer.ends.values())
    peer.connection.lost()
    assert [len(ends) for ends in peer.ends.values()] == [1] * len(peer.ends)
    assert greet <= peer.lost <= 1
    assert not peer.connection.usable


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (frame(DATA, 0, 0, b"x"), PROTOCOL),
        (frame(DATA, 0, 2, b"x"), PROTOCOL),
        (frame(DATA, 0, 99, b"x"), PROTOCOL),
        (frame(DATA, PADDED, 1, b""), FRAME_SIZE),
        (frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 0, block(HEAD)), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 9, block(HEAD)), PROTOCOL),
        (frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"abc"), PROTOCOL),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff"), COMPRESSION),
        (frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x01b\xbe"), COMPRESSION),  # an entry of the forbidden table
        (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f" + block(HEAD)), COMPRESSION),  # a table of 4096
        (frame(HEADERS, 0, 1, b"") + frame(DATA, 0, 1, b""), PROTOCOL),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 3, b""), PROTOCOL),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, bytes(70_000)) * 2, CALM),
        (frame(HEADERS, END_HEADERS, 1, (b"\x00\x01a\x7f\xff\x00" + bytes(254)) * 600), COMPRESSION),
        (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
        (frame(RST, 0, 1, b"abc"), FRAME_SIZE),
        (frame(RST, 0, 0, bytes(4)), PROTOCOL),
        (frame(SETTINGS, 0, 0, b"abc"), FRAME_SIZE),
        (frame(SETTINGS, 0, 1), PROTOCOL),
        (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE),
        (settings(window=2**31), FLOW_CONTROL),
        (settings(frame=2**14 - 1), PROTOCOL),
        (settings(frame=2**24), PROTOCOL),
        (settings(push=2), PROTOCOL),
        (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
        (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE),
        (frame(PUSH, END_HEADERS, 1, bytes(4)), PROTOCOL),
        (frame(PING, 0, 0, b"short"), FRAME_SIZE),
        (frame(PING, 0, 1, bytes(8)), PROTOCOL),
        (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE),
        (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
        (credit(0, 0), PROTOCOL),
        (credit(0, 2**31 - 1), FLOW_CONTROL),
        (frame(CREDIT, 0, 0, b"abc"), FRAME_SIZE),
        (struct.pack(">LBL", 2**20 + 1, 0, 1)[1:] + bytes(9), FRAME_SIZE),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_so_and_left(broken: bytes, code: int) -> None:
    peer = Peer()
    first, second = peer.begin(), peer.begin()
    peer.say(broken)
    assert peer.error == code
    assert {peer.reply(number).code for number in (first, second)} == {StatusCode.UNAVAILABLE}
    assert not peer.reply(first).not_processed
    peer.say(answer(first))
    assert len(peer.ends[first]) == 1


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (lambda n: trailers(n, grpc_status="14"), StatusCode.UNAVAILABLE),
        (lambda n: head(n) + trailers(n, grpc_status="99"), StatusCode.UNKNOWN),
        (lambda n: head(n) + trailers(n, grpc_status="no number"), StatusCode.UNKNOWN),
        (lambda n: head(n) + trailers(n), StatusCode.INTERNAL),  # OK without a message
        (lambda n: head(n) + frame(DATA, 0, n, message(b"x", 1)) + trailers(n), StatusCode.INTERNAL),
        (lambda n: head(n) + frame(DATA, 0, n, message(b"xy")[:-1]) + trailers(n), StatusCode.INTERNAL),
        (lambda n: head(n) + frame(DATA, 0, n, message(b"x") * 2) + trailers(n), StatusCode.INTERNAL),
        (lambda n: head(n) + frame(DATA, 0, n, b"abc") + trailers(n), StatusCode.INTERNAL),
        (lambda n: head(n) + frame(DATA, END_STREAM, n, message(b"x")), StatusCode.UNKNOWN),
        (lambda n: head(n, "503") + frame(DATA, END_STREAM, n, b"<html>"), StatusCode.UNAVAILABLE),
        (lambda n: frame(HEADERS, ENDED, n, block([(":status", "404")])), StatusCode.UNIMPLEMENTED),
        (lambda n: frame(HEADERS, ENDED, n, block([(":status", "418")])), StatusCode.UNKNOWN),
        (lambda n: head(n, "100") + head(n) + frame(DATA, 0, n, message(b"")) + trailers(n), StatusCode.OK),
        (lambda n: frame(DATA, 0, n, message(b"x")), StatusCode.INTERNAL),  # before the headers
        (lambda n: head(n) + head(n), StatusCode.INTERNAL),  # trailers that end nothing
        (lambda n: frame(RST, 0, n, struct.pack(">L", 0)), StatusCode.INTERNAL),
        (lambda n: frame(RST, 0, n, struct.pack(">L", 7)), StatusCode.UNAVAILABLE),
        (lambda n: frame(RST, 0, n, struct.pack(">L", 8)), StatusCode.CANCELLED),
        (lambda n: frame(RST, 0, n, struct.pack(">L", 11)), StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_every_way_to_end_a_stream_is_a_code_and_the_other_calls_go_on(
    parts: Callable[[int], bytes], code: StatusCode
) -> None:
    peer = Peer()
    number, other = peer.begin(), peer.begin()
    peer.say(parts(number), answer(other, b"yes"))
    assert peer.reply(number).code is code
    assert peer.reply(other).payload == b"yes"
    assert peer.connection.usable


def test_the_reserved_bit_of_a_stream_number_is_ignored() -> None:
    peer = Peer()
    number = peer.begin()
    peer.say(trailers(number | 2**31, grpc_status="5"))
    assert peer.reply(number).code is StatusCode.NOT_FOUND


def test_only_a_refused_stream_is_unseen() -> None:
    peer = Peer()
    refused, cancelled = peer.begin(), peer.begin()
    peer.say(frame(RST, 0, refused, struct.pack(">L", 7)), frame(RST, 0, cancelled, struct.pack(">L", 8)))
    assert (peer.reply(refused).not_processed, peer.reply(cancelled).not_processed) == (True, False)


def test_trailing_metadata_are_given_without_grpcs_own_and_binary_ones_as_they_came() -> None:
    peer = Peer()
    number = peer.begin()
    own = [*TRAILERS, ("x-engine", "embedded"), ("x-engine", "again"), ("x-proof-bin", "AP8"), ("bad-bin", "*")]
    peer.say(head(number), frame(DATA, 0, number, message(b"")), frame(HEADERS, ENDED, number, block(own)))
    assert peer.reply(number).trailing == (*own[2:],)


def test_headers_that_are_no_utf8_are_read_all_the_same() -> None:
    peer = Peer()
    number = peer.begin()
    peer.say(frame(HEADERS, ENDED, number, block([("grpc-status", "3")]) + b"\x00\x0cgrpc-message\x02\xff\xfe"))
    assert peer.reply(number).code is StatusCode.INVALID_ARGUMENT


def test_a_peer_that_never_mentions_the_table_size_is_understood() -> None:
    peer = Peer()
    number = peer.begin()
    peer.say(frame(HEADERS, ENDED, number, b"\x00\x0bgrpc-status\x015"))
    assert peer.reply(number).code is StatusCode.NOT_FOUND


def test_known_header_blocks_are_bounded() -> None:
    peer = Peer()
    for index in range(1000):
        number = peer.begin()
        peer.say(trailers(number, grpc_status="3", grpc_message=f"{index}"))
        assert peer.reply(number).details == f"{index}"
    number = peer.begin()
    peer.say(trailers(number, grpc_status="3", grpc_message="x" * 30_000))
    known = peer.connection._reader._known
    assert 0 < len(known) <= 256
    assert max(map(len, known)) < 1100


def test_a_reply_above_the_limit_is_given_up_while_it_comes() -> None:
    peer = Peer(max_message_bytes=10)
    fits, large = peer.begin(), peer.begin()
    peer.say(answer(fits, bytes(10)))
    assert peer.reply(fits).code is StatusCode.OK
    peer.heard()
    peer.say(head(large), frame(DATA, 0, large, message(bytes(30))[:10]), frame(DATA, 0, large, bytes(6)))
    code, details, *_ = peer.reply(large)
    assert (code, translate(code, details, BY_CODE).reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
    assert [(f.stream, f.payload) for f in peer.sent(RST)] == [(large, struct.pack(">L", CANCEL))]
    peer.say(frame(DATA, 0, large, bytes(20)), trailers(large))
    assert len(peer.ends[large]) == 1


def test_a_cancelled_call_is_reset_and_its_late_reply_is_ignored() -> None:
    peer = Peer()
    number = peer.begin()
    peer.heard()
    peer.connection.cancel(number)
    peer.connection.cancel(number)
    assert [(f.kind, f.stream, f.payload) for f in peer.heard()] == [(RST, number, struct.pack(">L", CANCEL))]
    peer.say(answer(number), frame(RST, 0, number, bytes(4)), credit(number, 5))
    assert peer.ends[number] == []
    assert peer.connection.usable


def test_a_cancel_after_the_end_says_nothing() -> None:
    peer = Peer()
    number = peer.begin()
    peer.say(answer(number))
    peer.heard()
    peer.connection.cancel(number)
    assert peer.heard() == []


def test_what_is_read_is_credited_even_when_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_base, "CREDIT_STEP", 1000)
    peer = Peer()
    number = peer.begin()
    peer.connection.cancel(number)
    peer.heard()
    peer.say(frame(DATA, PADDED, number, b"\x09" + bytes(700)))
    assert peer.heard() == []
    peer.say(frame(DATA, 0, number, bytes(300)))
    assert [(f.kind, f.stream, f.payload) for f in peer.heard()] == [(CREDIT, 0, struct.pack(">L", 1001))]


def body(peer: Peer, number: int) -> tuple[bytes, bool]:
    """Return what was sent of a call's message now, and whether that was its end."""
    frames = [frame for frame in peer.sent(DATA) if frame.stream == number]
    return b"".join(frame.payload for frame in frames), any(frame.flags & END_STREAM for frame in frames)


def test_a_message_waits_for_the_streams_window() -> None:
    peer = Peer(window=10)
    number = peer.begin(b"0123456789")
    assert body(peer, number) == (message(b"0123456789")[:10], False)
    peer.say(credit(0, 1000))
    assert body(peer, number) == (b"", False)
    peer.say(credit(number, 3))
    assert body(peer, number) == (b"567", False)
    peer.say(credit(number, 100))
    assert body(peer, number) == (b"89", True)


def test_a_message_waits_for_the_connections_window_and_for_the_frame_size() -> None:
    peer = Peer(window=2**20)
    first, second = peer.begin(bytes(60_000)), peer.begin(bytes(60_000))
    heard = peer.sent(DATA)
    assert max(len(frame.payload) for frame in heard) == 2**14
    assert sum(len(frame.payload) for frame in heard) == 65_535
    peer.say(credit(0, 2**16))
    assert body(peer, second) == (bytes(120_010 - 65_535), True)
    peer.say(answer(first, b"1"), answer(second, b"2"))
    assert (peer.reply(first).payload, peer.reply(second).payload) == (b"1", b"2")


def test_larger_frames_are_sent_where_the_peer_takes_them() -> None:
    peer = Peer(frame=2**15)
    peer.begin(bytes(30_000))
    assert [len(frame.payload) for frame in peer.sent(DATA)] == [30_005]


def test_a_window_that_shrinks_below_nothing_has_to_be_paid_back() -> None:
    peer = Peer(window=20)
    number = peer.begin(bytes(30))
    assert len(body(peer, number)[0]) == 20
    peer.say(settings(window=5), credit(number, 15))
    assert body(peer, number) == (b"", False)
    peer.say(credit(number, 1))
    assert body(peer, number) == (b"\0", False)
    peer.say(settings(window=100))
    assert body(peer, number) == (bytes(14), True)


@pytest.mark.parametrize("more", [credit(1, 2**30), settings(window=2**30 + 1)])
def test_a_call_s_window_must_not_overflow_once_all_is_sent(more: bytes) -> None:
    peer = Peer(window=2**30)
    peer.begin(b"question")
    peer.say(credit(1, 2**30 - 1))
    assert peer.connection.usable
    peer.say(more)
    assert peer.error == FLOW_CONTROL


def test_a_held_calls_window_must_not_overflow() -> None:
    peer = Peer(window=10)
    number = peer.begin(bytes(2**17))
    peer.say(credit(number, 2**31 - 1), credit(number, 2**31 - 1))
    assert peer.error == FLOW_CONTROL


def test_a_server_that_answers_before_it_has_read_everything_gets_no_more() -> None:
    peer = Peer(window=10)
    number = peer.begin(bytes(30))
    peer.heard()
    peer.say(answer(number, b"enough"), credit(number, 100), settings(window=500))
    assert peer.reply(number).payload == b"enough"
    assert [(f.kind, f.payload) for f in peer.heard() if f.stream] == [(RST, struct.pack(">L", NO_ERROR))]


def test_a_held_call_that_is_cancelled_or_reset_sends_no_more() -> None:
    peer = Peer(window=10)
    cancelled, reset = peer.begin(bytes(30)), peer.begin(bytes(30))
    peer.connection.cancel(cancelled)
    peer.heard()
    peer.say(frame(RST, 0, reset, bytes(4)), credit(0, 100), credit(cancelled, 100), credit(reset, 100))
    assert peer.heard() == []
    assert peer.connection._out.streams == {}


def test_no_more_streams_than_the_peer_allows_and_room_is_told_once() -> None:
    peer = Peer(streams=2)
    told: list[int] = []
    numbers = [peer.begin(), peer.begin()]
    assert peer.connection.full
    peer.connection.room = lambda: told.append(1)
    peer.say(answer(numbers[0]), answer(numbers[1]))
    assert told == [1]
    peer.begin()
    peer.say(settings(streams=1))
    peer.connection.room = lambda: told.append(2)
    peer.say(settings(streams=2))
    assert told == [1, 2]


def test_a_peer_that_does_not_read_is_full_until_it_does() -> None:
    peer = Peer(window=2**20)
    told: list[int] = []
    peer.connection.pause()
    assert peer.connection.full
    peer.connection.room = lambda: told.append(1)
    number = peer.begin(bytes(30_000))
    assert body(peer, number) == (b"", False)
    peer.connection.resume()
    assert told == [1]
    assert body(peer, number) == (message(bytes(30_000)), True)


def test_pings_are_answered_but_not_without_end_for_one_who_does_not_read() -> None:
    peer = Peer()
    peer.heard()
    peer.say(frame(PING, 0, 0, b"01234567"), frame(PING, ACK, 0, b"76543210"))
    assert [(f.kind, f.flags, f.payload) for f in peer.heard()] == [(PING, ACK, b"01234567")]
    peer.connection.pause()
    peer.say(frame(PING, 0, 0, bytes(8)) * 1000)
    assert peer.connection.usable
    peer.say(frame(PING, 0, 0, bytes(8)))
    assert peer.error == CALM


def test_a_goodbye_lets_seen_calls_finish_and_then_closes() -> None:
    peer = Peer()
    seen, not_processed = peer.begin(), peer.begin()
    peer.say(goodbye(2**31 - 1))
    assert (peer.connection.usable, peer.lost, peer.ends[not_processed]) == (False, 1, [])
    peer.say(frame(PING, 0, 0, bytes(8)), goodbye(seen))
    assert peer.reply(not_processed).not_processed
    assert not peer.output.closed
    peer.say(answer(seen, b"late"))
    assert peer.reply(seen).payload == b"late"
    assert (peer.output.closed, peer.lost) == (True, 1)


def test_a_goodbye_to_nobody_closes_at_once() -> None:
    peer = Peer()
    peer.say(goodbye(0))
    assert (peer.output.closed, peer.lost) == (True, 1)


def test_the_last_stream_number_retires_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "LAST_STREAM", 4)
    peer = Peer()
    first, last = peer.begin(), peer.begin()
    assert (peer.connection.usable, peer.lost) == (False, 1)
    peer.say(answer(first), answer(last))
    assert (peer.reply(last).code, peer.output.closed) == (StatusCode.OK, True)


def test_closing_says_goodbye_and_ends_every_call() -> None:
    peer = Peer()
    number = peer.begin()
    peer.heard()
    peer.connection.close()
    assert peer.error == NO_ERROR
    assert peer.reply(number).code is StatusCode.UNAVAILABLE
    peer.connection.lost()
    assert (len(peer.ends[number]), peer.lost) == (1, 1)


def test_a_lost_connection_ends_its_calls_even_if_one_cancels_another() -> None:
    peer = Peer()
    ends: list[int] = []
    numbers: list[int] = []

    def first(_: Reply) -> None:
        ends.append(1)
        peer.connection.cancel(numbers[1])

    numbers.append(peer.connection.begin(b"\x83", b"", first))
    numbers.append(peer.connection.begin(b"\x83", b"", lambda _: ends.append(2)))
    numbers.append(peer.connection.begin(b"\x83", b"", lambda _: ends.append(3)))
    peer.connection.lost()
    assert ends == [1, 3]


def test_a_call_whose_end_raises_does_no_harm_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()

    def bad(_: Reply) -> None:
        raise LookupError

    number = peer.connection.begin(b"\x83", b"", bad)
    other = peer.begin()
    peer.say(answer(number), answer(other, b"fine"))
    assert peer.reply(other).payload == b"fine"
    assert "a done callback of a call raised" in caplog.text
