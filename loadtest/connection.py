"""One gRPC connection for many calls at once under gevent, by the gateway's HTTP/2 client.

grpcio under gevent waits for each reply in a thread: a request to the no-op server takes 0.59 ms, where h2load needs
0.16 ms and this 0.14 ms (docs/adr/0013-open-loop.md). So what is measured is the server. When a reply came is read from
the clock as its last bytes are parsed.
"""

import time
from typing import NamedTuple

import gevent
import gevent.event
import gevent.lock
from grpc import StatusCode

from servepath.http2.client import NoHttp2Error
from servepath.http2.drivers.gevent_driver import GeventLink, connect
from servepath.http2.frames import literal, request_head
from servepath.http2.replies import Metadata, Reply
from servepath.protocols.addresses import authority

MAX_REPLY_BYTES = 64 * 2**20
# A server may refuse calls that it counts as one too many while their predecessors end, or when it says goodbye.
# It is given a moment more each time: asked again at once, it has had none to end them.
MAX_NOT_PROCESSED, PAUSE_S = 10, 0.001


class Answered(NamedTuple):
    """A reply, and time.perf_counter_ns() when it was there."""

    reply: Reply
    received_ns: int


class Client:
    """Unary calls of one method to HOST:PORT. It connects with the first call, and again after a loss."""

    def __init__(self, address: str, method: str) -> None:
        self._address = address
        self._method = method
        self._blocks: dict[tuple[Metadata, float], bytes] = {}
        self._link: GeventLink | None = None
        self._opening = gevent.lock.RLock()

    def call(self, message: bytes, metadata: Metadata, timeout_s: float) -> Answered:
        """Send one message and wait for its reply, at most `timeout_s`, which the server is told.

        Raises UnicodeError for metadata that is not ASCII.
        """
        block = self._block(metadata, timeout_s)
        try:
            with gevent.Timeout(timeout_s):
                answered = self._once(block, message)
                # The server has not looked at the call: asking again cannot do it twice.
                for tries in range(MAX_NOT_PROCESSED):
                    if not answered.reply.not_processed:
                        break
                    gevent.sleep(tries * PAUSE_S)
                    answered = self._once(block, message)
                return answered
        except gevent.Timeout:
            return _failed(StatusCode.DEADLINE_EXCEEDED, f"no reply within {timeout_s:g} s")
        except OSError as error:
            return _failed(StatusCode.UNAVAILABLE, str(error))

    def close(self) -> None:
        """Close the connection; calls in flight end UNAVAILABLE."""
        if self._link is not None:
            self._link.connection.close()

    def _once(self, block: bytes, message: bytes) -> Answered:
        waiting: gevent.event.AsyncResult[Answered] = gevent.event.AsyncResult()
        link = self._open()
        number = link.begin(block, message, lambda reply: waiting.set(Answered(reply, time.perf_counter_ns())))
        try:
            answered: Answered = waiting.get()
        except gevent.Timeout:
            link.connection.cancel(number)
            raise
        return answered

    def _open(self) -> GeventLink:
        if self._link is not None and self._link.connection.usable:
            return self._link
        with self._opening:
            if self._link is None or not self._link.connection.usable:
                self._link = connect(self._address, MAX_REPLY_BYTES)
            return self._link

    def _block(self, metadata: Metadata, timeout_s: float) -> bytes:
        block = self._blocks.get((metadata, timeout_s))
        if block is None:
            block = self._blocks[metadata, timeout_s] = header_block(self._address, self._method, metadata, timeout_s)
        return block


def greet(address: str, timeout_s: float) -> None:
    """Connect to HOST:PORT and leave again. Raises NoHttp2Error where no gRPC server greets, OSError where none is."""
    try:
        with gevent.Timeout(timeout_s):
            connect(address, MAX_REPLY_BYTES).connection.close()
    except gevent.Timeout:
        raise NoHttp2Error(f"no greeting within {timeout_s:g} s") from None


def header_block(address: str, method: str, metadata: Metadata, timeout_s: float) -> bytes:
    """Return a call's header block. Raises UnicodeError for metadata that is not ASCII."""
    own = literal("grpc-timeout", f"{timeout_s * 1e3:.0f}m")
    return request_head(method, authority(address)) + own + b"".join(literal(*pair) for pair in metadata)


def _failed(code: StatusCode, details: str) -> Answered:
    return Answered(Reply(code, details), time.perf_counter_ns())
