"""What a connection sends: messages as far as the peer's windows reach, and nothing faster than it is read."""

import math
from time import monotonic
from typing import Protocol

from servepath.http2.frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_HEAD,
    FRAME_HEAD_BYTES,
    HEADERS,
    MAX_WINDOW,
    MESSAGE_FRAME,
    MESSAGE_HEAD,
    MESSAGE_HEAD_BYTES,
    NO_TABLE,
    ProtocolError,
    frame,
)
from servepath.http2.write_coalescer import WriteCoalescer

# Acknowledgements written for a peer that does not read them.
MAX_OWED = 1000
# Above this a frame is written by itself: joining it to others would copy it once more.
LARGE = 2**13


class Output(Protocol):
    """Where a connection's bytes go: what a driver has for a socket."""

    def write(self, data: bytes, /) -> None:
        """Send the bytes after those before them, now or when the socket takes them."""

    def close(self) -> None:
        """Close the socket once everything has left."""


class _Stream:
    """A stream that has not been sent to its end. rest: what is left.

    add_window: its window, less the peer's setting. tail: the frame that ends the stream after the rest; b"" has the
    last piece of the rest end it, None says that more may follow.
    ended: when the tail came, time.monotonic() seconds.
    """

    __slots__ = ("add_window", "ended", "rest", "tail")

    def __init__(self, rest: memoryview, add_window: int, tail: bytes | None) -> None:
        self.rest = rest
        self.add_window = add_window
        self.tail = tail
        self.ended = math.inf


class SendQueue:
    """The sending half of a connection. frame_size: the largest frame that the peer takes.

    coalescer: says when what was written leaves; without one, each frame leaves by itself.
    """

    def __init__(self, coalescer: WriteCoalescer | None = None) -> None:
        self.output: Output | None = None  # None before the start and after the end
        self.paused = False
        # Written together: a write of its own costs a frame more than making it.
        self._coalescer = coalescer
        self._frames: list[bytes] = []
        self.frame_size = DEFAULT_FRAME
        self.streams: dict[int, _Stream] = {}  # those that have not been sent to their end
        self.begun = 0  # of these, those on which more may follow
        # Credit for streams on which nothing is being sent yet.
        self._credits: dict[int, int] = {}
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        # Of windows that all streams share, what has been given since push_due: of the connection's, and whether any.
        self._more = 0
        self._wider = False
        self._owed = 0
        self._announces = False

    def announce_no_table(self) -> None:
        """Begin the next header block with the notice that no table is used, as a peer that lowers its may insist on.

        RFC 7541, 4.2. The block that leaves next: it may have been made long before, for a reply that waits.
        """
        self._announces = True

    def write(self, data: bytes) -> None:
        """Send a frame that no window holds back."""
        if len(data) > LARGE:
            self.flush()
            if self.output is not None:
                self.output.write(data)
            return
        self._frames.append(data)
        if self._coalescer is None:
            self.flush()
        elif len(self._frames) == 1:
            self._coalescer.defer(self.flush)

    def flush(self) -> None:
        """Pass everything to the output."""
        frames, self._frames = self._frames, []
        if frames and self.output is not None:
            self.output.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def close(self) -> None:
        """Close the connection when everything has been written."""
        self.flush()
        if self.output is not None:
            self.output.close()
            self.output = None

    def confirm(self, data: bytes) -> None:
        """Send an acknowledgement. Raises ProtocolError where the peer asks for more of them than it reads."""
        if self.paused:
            self._owed += 1
            if self._owed > MAX_OWED:
                raise ProtocolError("requests more replies than it reads", ENHANCE_YOUR_CALM)
        self.write(data)

    def write_head(self, head: bytes) -> None:
        """Send a frame that is a header block."""
        self.write(self._announcing(head) if self._announces else head)

    def send(self, number: int, head: bytes, message: bytes, tail: bytes = b"") -> None:
        """Send a frame, one message, as much of it as may be sent now, and the frame that ends the stream.

        Without such a frame, the message ends it.
        """
        size = MESSAGE_HEAD_BYTES + len(message)
        if self._announces:
            head = self._announcing(head)
        if not self.paused and size <= self.frame_size and size <= self._window and size <= self._stream_window:
            self._window -= size
            if self._credits:
                self._credits.pop(number, None)
            flags = 0 if tail else END_STREAM
            data = MESSAGE_FRAME.pack(size >> 8, size & 0xFF, DATA, flags, number, 0, len(message))
            if size <= LARGE:
                self.write(b"".join((head, data, message, tail)))
            else:
                self.write(head + data)
                self.write(message)
                if tail:
                    self.write(tail)
        else:
            self.open(number, head)
            self._finish(number, tail)
            self.more(number, message)

    def open(self, number: int, head: bytes) -> None:
        """Send a frame that begins a stream of messages."""
        self.write_head(head)
        self.streams[number] = _Stream(memoryview(b""), self._credits.pop(number, 0), None)
        self.begun += 1

    def more(self, number: int, message: bytes) -> int:
        """Send a message of an open stream; return how many bytes of the stream wait."""
        stream = self.streams[number]
        stream.rest = memoryview(b"".join((stream.rest, MESSAGE_HEAD.pack(0, len(message)), message)))
        self._push(number)
        return len(stream.rest)

    def end(self, number: int, tail: bytes) -> None:
        """End an open stream."""
        self._finish(number, tail)
        self._push(number)

    def untaken(self, since: float) -> list[int]:
        """Return the streams that were ended before a time.monotonic() second, and still wait for the peer."""
        return [number for number, stream in self.streams.items() if stream.ended < since]

    def drop(self, number: int) -> bool:
        """Send no more of a stream; say whether something of it was still held."""
        if self._credits:
            self._credits.pop(number, None)
        stream = self.streams.pop(number, None)
        if stream is not None and stream.tail is None:
            self.begun -= 1
        return stream is not None

    def clear(self) -> None:
        """Drop everything: there is no socket any more."""
        self.streams.clear()
        self.begun = 0

    def resume(self) -> None:
        """Resume after a pause: the peer reads again."""
        self.paused = False
        self._owed = 0
        self._push_all()

    def add_window(self, more: int) -> None:
        """Widen the connection's window; `push_due` sends what fits. Raises ProtocolError."""
        _checked(self._window + self._more + more)
        self._more += more
        self._wider = True

    def add_stream_window(self, number: int, more: int) -> None:
        """Widen the window of a stream that has not ended. Raises ProtocolError."""
        stream = self.streams.get(number)
        if stream is None:
            add_window = self._credits[number] = self._credits.get(number, 0) + more
            _checked(self._stream_window + add_window)
        else:
            stream.add_window += more
            _checked(self._stream_window + stream.add_window)
            self._push(number)

    def set_stream_window(self, value: int) -> None:
        """Set the initial window of all streams, open ones too; `push_due` checks them and sends what fits.

        Raises ProtocolError.
        """
        self._stream_window = _checked(value)
        self._wider = True

    def push_due(self) -> None:
        """Send what shared windows have made room for; raises ProtocolError where they made a stream's too large.

        Once for all frames of a read: each walks over all streams, and a peer can send a thousand frames in one read.
        Until then nobody uses what was given: the oldest goes first.
        """
        if self._wider:
            self._wider = False
            self._window += self._more
            self._more = 0
            for stream in self.streams.values():
                _checked(self._stream_window + stream.add_window)
            for add_window in self._credits.values():
                _checked(self._stream_window + add_window)
            self._push_all()

    def _finish(self, number: int, tail: bytes) -> None:
        stream = self.streams[number]
        stream.tail, stream.ended = tail, monotonic()
        self.begun -= 1

    def _push_all(self) -> None:
        """Send as much of what is held as the windows allow, the oldest first."""
        for number in list(self.streams):
            if self._window <= 0:
                break
            self._push(number)

    def _push(self, number: int) -> None:
        stream = self.streams[number]
        while stream.rest and not self.paused:
            size = min(len(stream.rest), self._window, self._stream_window + stream.add_window, self.frame_size)
            if size <= 0:
                return
            self._window -= size
            stream.add_window -= size
            part, stream.rest = stream.rest[:size], stream.rest[size:]
            self.write(frame(DATA, END_STREAM if stream.tail == b"" and not stream.rest else 0, number, part))
        if not stream.rest and stream.tail is not None:
            del self.streams[number]
            if stream.tail:
                self.write_head(stream.tail)

    def _announcing(self, head: bytes) -> bytes:
        self._announces = False
        _, _, _, flags, number = FRAME_HEAD.unpack_from(head)
        return frame(HEADERS, flags, number, NO_TABLE + head[FRAME_HEAD_BYTES:])


def _checked(window: int) -> int:
    if window > MAX_WINDOW:
        raise ProtocolError("a window above 2^31-1", FLOW_CONTROL_ERROR)
    return window
