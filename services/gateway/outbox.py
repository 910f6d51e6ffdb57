"""What a connection sends: requests as far as the peer's windows reach, and nothing faster than it is read."""

import asyncio

from services.gateway.frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_HEAD,
    HEADERS,
    MAX_WINDOW,
    MESSAGE_HEAD,
    ProtocolError,
    frame,
)

# Acknowledgements written for a peer that does not read them.
MAX_OWED = 1000


class _Held:
    """A message that has not been sent to its end: what is left of it, and the peer's credit for its stream."""

    __slots__ = ("rest", "window")

    def __init__(self, rest: memoryview, window: int) -> None:
        self.rest = rest
        self.window = window


class Outbox:
    """The sending half of a connection. frame_size: the largest frame that the peer takes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self.frame_size = DEFAULT_FRAME
        self._held: dict[int, _Held] = {}
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._owed = 0

    def write(self, data: bytes) -> None:
        """Send a frame that no window holds back."""
        if self.transport is not None:
            self.transport.write(data)

    def confirm(self, data: bytes) -> None:
        """Send an acknowledgement. Raises ProtocolError where the peer asks for more of them than it reads."""
        if self.paused:
            self._owed += 1
            if self._owed > MAX_OWED:
                raise ProtocolError("asks for more answers than it reads", ENHANCE_YOUR_CALM)
        self.write(data)

    def request(self, number: int, block: bytes, message: bytes) -> None:
        """Send a header block and one message, or as much of it as may be sent now."""
        size = MESSAGE_HEAD.size + len(message)
        head = frame(HEADERS, END_HEADERS, number, block)
        if size <= self.frame_size and size <= self._window and size <= self._stream_window:
            self._window -= size
            data = FRAME_HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, number)
            self.write(b"".join((head, data, MESSAGE_HEAD.pack(0, len(message)), message)))
        else:
            self.write(head)
            self._held[number] = _Held(memoryview(MESSAGE_HEAD.pack(0, len(message)) + message), self._stream_window)
            self._push(number)

    def drop(self, number: int) -> bool:
        """Send no more of a message; say whether something of it was still held."""
        return self._held.pop(number, None) is not None

    def resume(self) -> None:
        """Go on after a pause: the peer reads again."""
        self.paused = False
        self._owed = 0
        self.push_all()

    def credit(self, more: int) -> None:
        """Take the peer's credit for the connection. Raises ProtocolError."""
        self._window = _checked(self._window + more)
        self.push_all()

    def credit_stream(self, number: int, more: int) -> None:
        """Take the peer's credit for a stream. Raises ProtocolError."""
        held = self._held.get(number)
        if held is not None:
            held.window = _checked(held.window + more)
            self._push(number)

    def set_stream_window(self, value: int) -> None:
        """Take the peer's setting for all streams, the begun ones too. Raises ProtocolError."""
        _checked(value)
        for held in self._held.values():
            held.window = _checked(held.window + value - self._stream_window)
        self._stream_window = value

    def push_all(self) -> None:
        """Send as much of the held messages as the windows allow, the oldest first."""
        for number in list(self._held):
            if self._window <= 0:
                break
            self._push(number)

    def _push(self, number: int) -> None:
        held = self._held[number]
        while not self.paused:
            size = min(len(held.rest), self._window, held.window, self.frame_size)
            if size <= 0:
                break
            self._window -= size
            held.window -= size
            part, held.rest = held.rest[:size], held.rest[size:]
            self.write(frame(DATA, 0 if held.rest else END_STREAM, number, part))
            if not held.rest:
                del self._held[number]
                break


def _checked(window: int) -> int:
    if window > MAX_WINDOW:
        raise ProtocolError("a window above 2^31-1", FLOW_CONTROL_ERROR)
    return window
