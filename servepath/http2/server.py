"""A server's side of a connection: which frames a stream may have, and what becomes of others (RFC 9113, 5.1).

A malformed request ends its stream and the others go on: behind a proxy they may be somebody else's. Whatever else
breaks a rule ends the connection, as RFC 9113, 5.4.1 allows: no proxy passes it on.
"""

import logging
from typing import Protocol

from servepath.http2.connection_base import ConnectionBase
from servepath.http2.early import EarlyEnds, after_end
from servepath.http2.frames import (
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    GOAWAY_HEAD,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LONG,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    OUR_FRAME,
    OUR_WINDOW,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    ProtocolError,
    frame,
    settings_of,
    unpadded,
)
from servepath.http2.header_decoder import MAX_HEADER_LIST, HeaderDecoder
from servepath.http2.request_headers import RequestHeaders, request_headers
from servepath.http2.send_queue import Output
from servepath.http2.write_coalescer import WriteCoalescer

log = logging.getLogger(__name__)
# How many streams may come to nothing before it looks like an attack, if that is also most of them (CVE-2023-44487).
FREE_RESETS = 1000
ENDLESS = "trailers that do not end their stream"


class ServerOutput(Output, Protocol):
    """Where a server's bytes go."""

    def abort(self) -> None:
        """Close the socket now; what has not left is dropped."""


class Stream(Protocol):
    """One open stream, as its connection sees it. ended: the peer has sent its last."""

    ended: bool

    def take(self, payload: bytes, *, ended: bool) -> None:
        """Take what the peer sent; `ended` says that it was the last of it. Raises ProtocolError after that."""

    def cancelled(self) -> None:
        """Note that the peer went away, or is not listened to. The stream has left its connection."""

    def overdue(self, now: float) -> bool:
        """Return whether its deadline has passed (time.monotonic() seconds) while its message was still coming."""


class ServerConnection(ConnectionBase):
    """Takes streams in. max_streams: at once, those included whose replies wait to be sent."""

    def __init__(self, max_streams: int, coalescer: WriteCoalescer) -> None:
        super().__init__(
            settings_of(
                (HEADER_TABLE_SIZE, 0),
                (MAX_CONCURRENT_STREAMS, max_streams),
                (INITIAL_WINDOW_SIZE, MAX_WINDOW),
                (MAX_FRAME_SIZE, OUR_FRAME),
                (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
            )
            + OUR_WINDOW,
            coalescer,
        )
        self.streams: dict[int, Stream] = {}
        self._most_streams = max_streams
        self._output: ServerOutput | None = None
        self._prefaced = False
        self._last = 0
        self._goaway_last = MAX_WINDOW  # the highest number that there is
        self._begun = 0
        self._resets = 0
        self._early = EarlyEnds(max_streams)
        self._lengths: dict[int, int] = {}  # of streams with a content-length what is to come
        self._reader = HeaderDecoder(request_headers, settled=False)

    # What the service adds.

    def _open(self, number: int, request: RequestHeaders) -> Stream | bytes:
        """Return the stream of a request, or the frame that refuses it."""
        raise NotImplementedError

    def _emptied(self) -> None:
        """Note that there is no stream any more."""

    @property
    def open_streams(self) -> int:
        """Return the number of streams that have not ended, and of replies that have not been sent to their end."""
        # One whose reply is still being made is in both.
        return len(self.streams) + len(self._out.streams) - self._out.begun

    def _end(self, number: int) -> None:
        """Take an open stream out that the service ends."""
        if not self.streams.pop(number).ended:
            self._lengths.pop(number, None)
            self._early.add(number, self._last)

    # What a driver calls.

    def start(self, output: ServerOutput) -> None:
        """Send the greeting."""
        self._output = output
        self._greet(output)

    def receive(self, data: bytes) -> None:
        """Read frames, once the peer has said that it speaks HTTP/2."""
        if not self._prefaced:
            self._buffer += data
            if not PREFACE.startswith(bytes(self._buffer[: len(PREFACE)])):
                self.abort()
                return
            if len(self._buffer) < len(PREFACE):
                return
            self._prefaced = True
            data = bytes(self._buffer[len(PREFACE) :])
            self._buffer.clear()
        super().receive(data)

    def abort(self) -> None:
        """Close without a word."""
        self._out.output = None
        if self._output is not None:
            self._output.abort()

    # Frames.

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpadded(flags, payload)
        ended = (flags & END_STREAM) != 0
        stream = self.streams.get(number)
        if stream is None:
            self._check(number)
            self._early.take(number, ended=ended)
        elif not self._lengths or self._measured(number, len(payload), ended=ended):
            stream.take(payload, ended=ended)

    def _block(self, flags: int, number: int, block: bytes) -> None:
        ended = (flags & END_STREAM) != 0
        if number > self._last and number & 1:
            self._last = number
            self._begun += 1
            self._begin(number, self._reader.read(block), ended=ended)
            return
        stream = self.streams.get(number)
        if stream is not None:
            self._trailers(number, stream, block, ended=ended)
        elif number & 1 and number in self._early:
            if not ended:
                raise ProtocolError(ENDLESS)
            self._reader.read(block)
            self._early.take(number, ended=True)
        else:
            raise ProtocolError("headers of a stream that is already open")

    def _trailers(self, number: int, stream: Stream, block: bytes, *, ended: bool) -> None:
        if stream.ended:
            raise after_end()
        if not ended:
            raise ProtocolError(ENDLESS)
        fault = self._reader.read(block).trailers_fault
        if fault:
            self._break(number, fault, ended=True)
        elif not self._lengths or self._measured(number, 0, ended=True):
            stream.take(b"", ended=True)

    def _begin(self, number: int, request: RequestHeaders, *, ended: bool) -> None:
        if self.open_streams >= self._most_streams:
            self._reset_stream(number, REFUSED_STREAM, ended=ended)
            return
        if request.fault or (ended and request.length):
            self._break(number, request.fault or "a content-length without content", ended=ended)
            return
        stream = self._open(number, request)
        if isinstance(stream, bytes):
            if not ended:
                self._early.add(number, self._last)
            self._out.write_head(stream)
            return
        self.streams[number] = stream
        if ended:
            stream.take(b"", ended=True)
        elif request.length is not None:
            self._lengths[number] = request.length

    def _measured(self, number: int, size: int, *, ended: bool) -> bool:
        """Count what came of a message against what content-length says; say whether the call goes on."""
        left = self._lengths.pop(number, None)
        if left is None:
            return True
        left -= size
        if left < 0 or (ended and left):
            self._break(number, "content of another length than content-length says", ended=ended)
            return False
        if not ended:
            self._lengths[number] = left
        return True

    def _break(self, number: int, fault: str, *, ended: bool) -> None:
        """End a stream whose request is malformed; the others go on (RFC 9113, 8.1.1)."""
        log.debug("a malformed request: %s", fault)
        stream = self.streams.pop(number, None)
        if stream is not None:
            self._lengths.pop(number, None)
            stream.cancelled()
            if not self.streams:
                self._emptied()
        self._reset_stream(number, PROTOCOL_ERROR, ended=ended)

    def _reset_stream(self, number: int, code: int, *, ended: bool) -> None:
        """End a stream with an error; `ended` says that the caller has ended it."""
        self._out.drop(number)
        self._out.write(frame(RST_STREAM, 0, number, LONG.pack(code)))
        if not ended:
            self._early.add(number, self._last)
        self._count_reset()

    def _count_reset(self) -> None:
        """Count a stream that came to nothing, anyone who reset it: each has cost work, and its caller nothing."""
        self._resets += 1
        if self._resets > FREE_RESETS and 2 * self._resets > self._begun:
            raise ProtocolError("has most of its streams reset or refused", ENHANCE_YOUR_CALM)

    def _check(self, number: int) -> None:
        if not number & 1 or number > self._last:
            raise ProtocolError("a frame for a stream that was never opened")

    def _knows(self, number: int) -> bool:
        if number in self.streams:
            return True
        self._check(number)
        # Of a reply that has not been sent to its end, the stream is no call any more.
        return number in self._out.streams

    def _ended(self, number: int, code: int) -> None:
        del code
        self._check(number)
        unsent = self._out.drop(number)
        stream = self.streams.pop(number, None)
        if stream is not None:
            self._lengths.pop(number, None)
            stream.cancelled()
            if not self.streams:
                self._emptied()
        if number in self._early:
            self._early.take(number, ended=True)
        if stream is not None or unsent:
            self._count_reset()

    def _on_settings_ack(self) -> None:
        self._reader.disable_table()

    def _on_lost(self, text: str) -> None:
        del text
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.cancelled()

    def _goaway_frame(self, code: int) -> bytes:
        self._goaway_last = min(self._goaway_last, self._last)  # may not rise (RFC 9113, 6.8)
        return frame(GOAWAY, 0, 0, GOAWAY_HEAD.pack(self._goaway_last, code))
