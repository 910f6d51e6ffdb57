"""Who an external server is: its ServerMetadata, asked with every probe, since its replies do not say it."""

import asyncio
from time import monotonic

from grpc import StatusCode

from servepath.http2.drivers.asyncio_channel import UnaryChannel
from servepath.http2.replies import Reply
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.external import SERVER_METADATA, UNKNOWN_ENGINE, engine_named
from servepath.protocols.identity import Named, Trailing

MAX_BYTES = 64 * 2**10


class ServerMetadata:
    """Engine and version of the server at an address, as it said last; a new one is known with the next probe."""

    def __init__(self, address: str, coalescer: WriteCoalescer | None = None) -> None:
        self._channel = UnaryChannel(address, SERVER_METADATA, MAX_BYTES, coalescer)
        self.engine = UNKNOWN_ENGINE

    def engine_of(self, _: Trailing) -> Named:
        """Return engine and version, unknown ones as long as the server has not named any, and no precision."""
        return (*self.engine, "")

    async def refresh(self, timeout_s: float) -> None:
        """Request it from the server; what it said last stays when it does not answer. Raises nothing."""
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not replied.done():  # it may be late by a turn of the loop
                replied.set_result(reply)

        cancel = self._channel.call(b"", monotonic() + timeout_s, (), done)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await replied
        except TimeoutError:
            return
        finally:
            cancel()
        if reply.code is StatusCode.OK:
            self.engine = engine_named(reply.payload)
        elif reply.code is StatusCode.UNIMPLEMENTED:
            self.engine = UNKNOWN_ENGINE

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
