"""A caller that speaks HTTP/2 frame by frame, over a real socket."""

import asyncio
import struct

from tests.limits import LONG_S
from tests.unit.servepath.http2.scripted_peer import END_HEADERS, END_STREAM, HEADERS, Frame, block, frame

HOT = "/test.Service/Hot"


REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", HOT),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
ACK = 1


class Caller:
    """A caller that writes frames as a test says, and reads what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))

    async def hear(self, kind: int) -> Frame:
        """Return the next frame of a kind."""
        while True:
            head = await asyncio.wait_for(self._reader.readexactly(9), LONG_S)
            length = int.from_bytes(head[:3], "big")
            heard = Frame(*struct.unpack(">BBL", head[3:]), await self._reader.readexactly(length))
            if heard.kind == kind:
                return heard

    async def status(self) -> bytes:
        """Return the next block that ends a stream."""
        while not (heard := await self.hear(HEADERS)).flags & END_STREAM:
            pass
        return heard.payload

    async def closed(self) -> bool:
        """Wait for the end; say yes."""
        while await asyncio.wait_for(self._reader.read(2**16), LONG_S):
            pass
        return True

    def close(self) -> None:
        self._writer.close()


async def caller_of(port: int, *said: bytes) -> Caller:
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
    caller.say(*said)
    return caller


def request(number: int, *more: tuple[str, str], flags: int = 0) -> bytes:
    return frame(HEADERS, END_HEADERS | flags, number, block((*REQUEST, *more)))
