"""What a caller's headers may say on the native listener, however odd: hot calls and control RPCs hear the same."""

from collections.abc import AsyncIterator
from time import monotonic

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from services.dataplane.listener import ListenerLimits, RawCall
from services.dataplane.native_listener import NativeListener
from tests.integration.services.dataplane.raw_caller import HOT, REQUEST, Caller, caller_of
from tests.unit.servepath.http2.scripted_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    block,
    frame,
    message,
    settings,
)

CHECK = "/grpc.health.v1.Health/Check"
METHODS = pytest.mark.parametrize("method", [HOT, CHECK])
OK = b"grpc-status\x010"


class Counting:
    """A `Dispatch` that answers and keeps the calls."""

    def __init__(self) -> None:
        self.raws: list[RawCall] = []

    def __call__(self, raws: list[RawCall]) -> None:
        self.raws += raws
        for raw in raws:
            raw.reply(raw.payload)


@pytest.fixture
async def counting() -> Counting:
    return Counting()


@pytest.fixture
async def caller(counting: Counting) -> AsyncIterator[Caller]:
    def add_health(server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)

    front = NativeListener("127.0.0.1:0", (HOT,), counting, (add_health,), ListenerLimits(max_deadline_s=60))
    caller = await caller_of(await front.start(), PREFACE, settings())
    yield caller
    caller.close()
    await front.stop(0)


def call(method: str, *more: tuple[str, str], raw: bytes = b"") -> bytes:
    fields = block([*(dict(REQUEST) | {":path": method}).items(), *more])
    return frame(HEADERS, END_HEADERS, 1, fields + raw) + frame(DATA, END_STREAM, 1, message(b""))


ODD = {
    "not ASCII": call(CHECK, ("x-user", "Jos\xe9")),
    "no text": call(CHECK, raw=b"\x00\x06x-user\x02\xff\xfe"),
    "a tab": call(CHECK, ("x-user", "a\tb")),
    "DEL": call(CHECK, ("x-user", "a\x7f")),
    "a key that gRPC has not": call(CHECK, ("x!user", "a")),
    "the suffix of bytes alone": call(CHECK, ("-bin", "AA")),
    "bytes that are none": call(CHECK, ("x-bin", "*")),
    "bytes with an odd end": call(CHECK, ("x-bin", "A")),
    "nothing": call(CHECK, ("x-user", "")),
    "white space": call(CHECK, ("x-user", " a ")),
    "content-length": call(CHECK, ("content-length", "5")),
}


@pytest.mark.parametrize("said", ODD.values(), ids=ODD)
async def test_odd_metadata_that_nobody_reads_spoil_no_control_rpc(
    caller: Caller, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caller.say(said)
    assert OK in await caller.status()
    assert caplog.records == []


@METHODS
@pytest.mark.parametrize("ever", ["99999999H", "2562047H", "2562048H", "99999999M", "99999999S"])
async def test_for_ever_is_the_longest_deadline(caller: Caller, counting: Counting, method: str, ever: str) -> None:
    before = monotonic()
    caller.say(call(method, ("grpc-timeout", ever)))
    assert OK in await caller.status()
    for raw in counting.raws:
        assert before + 60 <= raw.deadline <= monotonic() + 60


@METHODS
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snappy", "GZIP", "\xe9" * 2000])
async def test_who_compresses_is_told_to_send_without(
    caller: Caller, counting: Counting, method: str, encoding: str
) -> None:
    caller.say(call(method, ("grpc-encoding", encoding)))
    status = await caller.status()
    assert b"grpc-status\x0212" in status
    assert b"grpc-accept-encoding\x08identity" in status
    assert b"send messages without (grpc-encoding: identity)" in status
    assert len(status) < 500
    assert counting.raws == []


@METHODS
@pytest.mark.parametrize("encoding", ["identity", "IDENTITY"])
async def test_who_says_that_it_does_not_compress_is_answered(caller: Caller, method: str, encoding: str) -> None:
    caller.say(call(method, ("grpc-encoding", encoding)))
    assert OK in await caller.status()
