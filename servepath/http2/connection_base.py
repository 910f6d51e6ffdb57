"""One HTTP/2 connection, as far as both of its sides do the same: frames read, settings, pings, windows (RFC 9113)."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from servepath.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_TABLE,
    ENABLE_PUSH,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_HEAD,
    FRAME_HEAD_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    GOAWAY_HEAD,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LONG,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    OUR_FRAME,
    PADDED_OR_PRIORITISED,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    ProtocolError,
    connection_wide,
    frame,
    sized,
    unpadded,
)
from servepath.http2.header_decoder import MAX_HEADER_LIST
from servepath.http2.send_queue import Output, SendQueue
from servepath.http2.write_coalescer import WriteCoalescer

log = logging.getLogger(__name__)

# The connection's credit is given back to the peer once this much has been read.
CREDIT_STEP = 2**28


class ConnectionBase:
    """Reads frames and keeps the connection's own state; a side of it says what streams are.

    Its driver calls `start` once, `receive` with whatever comes, `pause` and `resume` as the socket fills and empties,
    and `lost` once at the end; of all methods one at a time. greeting: what is written first. coalescer: see SendQueue.
    """

    def __init__(self, greeting: bytes, coalescer: WriteCoalescer | None) -> None:
        self.settled = False  # the peer has sent its settings
        self._greeting = greeting
        self._coalescer = nullcontext() if coalescer is None else coalescer
        self._out = SendQueue(coalescer)
        self._buffer = bytearray()
        self._awaited: int | None = SETTINGS  # the only kind of frame that may come now
        self._partial = (0, 0, bytearray())  # stream, flags and block of unfinished HEADERS
        self._read = 0  # bytes of DATA that the peer has not been given back
        self._max_streams = MAX_WINDOW
        self._table = DEFAULT_TABLE  # what the peer allows; we use none
        self._handlers: Mapping[int, Callable[[int, int, bytes], None]] = {
            DATA: self._data,
            HEADERS: self._headers,
            PRIORITY: self._priority,
            RST_STREAM: self._reset,
            SETTINGS: self._settings,
            PUSH_PROMISE: self._push_promise,
            PING: self._ping,
            GOAWAY: self._goaway,
            WINDOW_UPDATE: self._credit,
            CONTINUATION: self._continuation,
        }

    # What a side of the connection adds.

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        """Handle DATA, still padded where the flags say so."""
        raise NotImplementedError

    def _block(self, flags: int, number: int, block: bytes) -> None:
        """Handle a whole header block."""
        raise NotImplementedError

    def _ended(self, number: int, code: int) -> None:
        """Handle the peer's reset of a stream that may be open or have ended."""
        raise NotImplementedError

    def _knows(self, number: int) -> bool:
        """Return whether a stream is open. Raises ProtocolError for one that never was."""
        raise NotImplementedError

    def _on_goaway(self, last: int) -> None:
        """Handle the peer's GOAWAY: it will not process our streams above `last`."""

    def _on_settings_ack(self) -> None:
        """Handle the peer's acknowledgement of our settings."""

    def _on_capacity(self) -> None:
        """Handle new capacity: there may be room for calls again."""

    def _on_lost(self, text: str) -> None:
        """End every stream: the connection is lost, and `text` says why."""
        raise NotImplementedError

    def _greet(self, output: Output) -> None:
        """Send what is written first."""
        self._out.output = output
        self._out.write(self._greeting)

    # What a driver calls.

    def receive(self, data: bytes) -> None:
        """Read whole frames; what is left waits for the rest."""
        if self._out.output is None:
            return  # closed here
        try:
            with self._coalescer:
                self._read_frames(data)
        except ProtocolError as error:
            log.warning("HTTP/2 protocol error by a peer: %s", error)
            self._shut(error.code, "HTTP/2 protocol error by the peer")
        except Exception:
            log.exception("a frame could not be read")
            self._shut(INTERNAL_ERROR, "the reply could not be read")

    def _read_frames(self, data: bytes) -> int:
        """Handle the complete frames received so far; return their size in bytes."""
        buffer = self._buffer
        begin = taken = 0
        if buffer:
            # Only what the incomplete frame lacks: the frames behind it need not be copied once more.
            begin = self._complete(data)
            with memoryview(buffer) as view:
                taken = self._parse(view, 0)
            del buffer[:taken]
        end = self._parse(data, begin)
        buffer += data[end:]
        if self._read > CREDIT_STEP:
            self._out.write(frame(WINDOW_UPDATE, 0, 0, LONG.pack(self._read)))
            self._read = 0
        self._out.push_due()
        return taken + end - begin

    def _complete(self, data: bytes) -> int:
        """Append what the incomplete frame lacks, as far as `data` goes; return how many bytes of it that took."""
        buffer = self._buffer
        end = max(FRAME_HEAD_BYTES - len(buffer), 0)
        buffer += data[:end]
        if len(buffer) >= FRAME_HEAD_BYTES:
            high, low, _, _, _ = FRAME_HEAD.unpack_from(buffer)
            begin, end = end, end + FRAME_HEAD_BYTES + (high << 8 | low) - len(buffer)
            buffer += data[begin:end]
        return min(end, len(data))

    def _forget(self) -> None:
        """Drop incomplete data, which anything that refers to the connection would keep alive."""
        self._buffer = bytearray()
        self._partial = (0, 0, bytearray())

    @property
    def paused(self) -> bool:
        """Return whether messages wait because the peer does not keep up."""
        return self._out.paused

    def pause(self) -> None:
        """Send no more messages: the peer does not keep up."""
        self._out.paused = True

    def resume(self) -> None:
        """Resume sending."""
        self._out.resume()
        self._on_capacity()

    def lost(self) -> None:
        """End every stream: there is no socket any more."""
        self._out.output = None
        self._forget()
        self._on_lost("the connection was lost")

    # Frames.

    def _parse(self, data: bytes | memoryview, position: int) -> int:
        """Handle the complete frames in `data` from `position` on; return where they end."""
        end = len(data)
        handlers = self._handlers
        while end - position >= FRAME_HEAD_BYTES:
            high, low, kind, flags, number = FRAME_HEAD.unpack_from(data, position)
            begin = position + FRAME_HEAD_BYTES
            size = high << 8 | low
            if size > OUR_FRAME:
                raise ProtocolError(f"a frame of {size} bytes", FRAME_SIZE_ERROR)
            after = begin + size
            if after > end:
                break
            position = after
            if self._awaited is not None and kind != self._awaited:
                raise ProtocolError(f"a frame of type {kind} where only type {self._awaited} is allowed")
            if kind == DATA:
                self._read += size
            if kind in handlers:  # others are to be ignored (RFC 9113, 4.1)
                payload = data[begin:after]
                # bytes() of bytes copies nothing, and takes 2 % of a call's time for each of its frames.
                handlers[kind](flags, number & MAX_WINDOW, payload if isinstance(payload, bytes) else bytes(payload))
        return position

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        block = unpadded(flags, payload, PRIORITISED) if flags & PADDED_OR_PRIORITISED else payload
        if flags & END_HEADERS:
            self._block(flags, number, block)
        else:
            self._awaited = CONTINUATION
            self._partial = (number, flags, bytearray(block))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        first, first_flags, block = self._partial
        if self._awaited is None or number != first:
            raise ProtocolError("a continuation without headers")
        block += payload
        if len(block) > MAX_HEADER_LIST:
            raise ProtocolError("an unterminated header block", ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._awaited = None
            self._partial = (0, 0, bytearray())
            self._block(first_flags, number, bytes(block))

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:  # whole ones are ignored, as all of what was priority (RFC 9113, 5.3)
            raise ProtocolError("a priority of the whole connection")
        sized(payload, 5)

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        (code,) = LONG.unpack(sized(payload, LONG.size))
        self._ended(number, code)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        connection_wide(number)
        if flags & ACK:
            sized(payload, 0)
            if self._awaited is not None:
                raise ProtocolError("settings acknowledged before any were sent")
            self._on_settings_ack()
            return
        if len(payload) % SETTING.size:
            raise ProtocolError("settings of the wrong size", FRAME_SIZE_ERROR)
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self._out.confirm(frame(SETTINGS, ACK, 0))
        self._awaited = None
        self.settled = True
        self._on_capacity()

    def _set(self, key: int, value: int) -> None:
        if key == INITIAL_WINDOW_SIZE:
            self._out.set_stream_window(value)
        elif key == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME <= value < 2**24:
                raise ProtocolError("a frame size out of bounds")
            self._out.frame_size = value
        elif key == MAX_CONCURRENT_STREAMS:
            self._max_streams = value
        elif key == HEADER_TABLE_SIZE:
            if value < self._table:
                self._out.announce_no_table()
            self._table = value
        elif key == ENABLE_PUSH and value > 1:
            raise ProtocolError("a switch that is neither on nor off")

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise ProtocolError("a push although push is disabled")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        connection_wide(number)
        if not flags & ACK:
            self._out.confirm(frame(PING, ACK, 0, sized(payload, 8)))

    def _goaway(self, _: int, number: int, payload: bytes) -> None:
        connection_wide(number)
        if len(payload) < GOAWAY_HEAD.size:
            raise ProtocolError("a GOAWAY of the wrong size", FRAME_SIZE_ERROR)
        last, code = GOAWAY_HEAD.unpack_from(payload)
        if code:
            log.warning("a peer sent GOAWAY with error %d", code)
        self._on_goaway(last & MAX_WINDOW)

    def _credit(self, _: int, number: int, payload: bytes) -> None:
        more = LONG.unpack(sized(payload, LONG.size))[0] & MAX_WINDOW
        if not more:
            raise ProtocolError("a window update of zero")
        if not number:
            self._out.add_window(more)
        elif self._knows(number):
            self._out.add_stream_window(number, more)

    def _shut(self, code: int, text: str) -> None:
        """Send GOAWAY with an error, or none, and close."""
        self._out.write(self._goaway_frame(code))
        self._out.close()
        self._on_lost(text)

    def _goaway_frame(self, code: int) -> bytes:
        return frame(GOAWAY, 0, 0, GOAWAY_HEAD.pack(0, code))
