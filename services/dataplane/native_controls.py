"""A call of any other method on the native listener: a grpc.aio server on a Unix socket behind it answers."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import cast

from grpc import StatusCode, aio

from servepath.http2.early import after_end
from servepath.http2.frames import MESSAGE_HEAD, MESSAGE_HEAD_BYTES
from servepath.http2.grpc_server import GrpcServerConnection
from servepath.http2.request_headers import RequestHeaders
from servepath.http2.unary_call import Taker
from servepath.protocols.errors import Internal

log = logging.getLogger(__name__)
# Messages that a caller has sent, and bytes of its replies, that may wait.
MAX_INBOX = 1000
MAX_UNREAD = 2**22
# What is in the inbox of a call that is one message.
ONE_AND_END = 2
# Instead of what grpc says then, which names the socket behind.
NOT_REACHED = "the server does not answer control calls now"
# grpc.aio writes its own user-agent; of "-bin" grpcio wants bytes, and its core text.
NOT_FORWARDED = ("user-agent", "-bin")
# What gRPC allows in a key and in a value that is no bytes; grpc.aio would refuse the call for anything else.
KEY = re.compile(r"[0-9a-z_.-]+")
VALUE = re.compile(r"[ -~]*")


class ControlCall:
    """A call of any other method, carried to the control server and back message by message."""

    def __init__(
        self,
        taker: Taker,
        channel: aio.Channel,
        connection: GrpcServerConnection,
        number: int,
        headers: RequestHeaders,
    ) -> None:
        self._taker = taker
        self._limits = taker.limits
        self._connection = connection
        self._number = number
        self._buffer = bytearray()
        # Of messages that wait here, whole or not.
        self._size = 0
        self.ended = self._refused = self._begun = False
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._channel = channel
        self._headers = headers
        self._deadline = taker.limits.deadline(headers.remaining_s)
        self._task: asyncio.Task[None] | None = None

    def take(self, payload: bytes, *, ended: bool) -> None:  # noqa: C901 - a refusal a line
        """Pass complete messages on. Raises ProtocolError after their end."""
        if self.ended:
            raise after_end()
        self.ended = ended
        self._size += len(payload)
        if not self._taker.hold(len(payload)):
            self._refuse(StatusCode.RESOURCE_EXHAUSTED, "too many large messages are being received; try again later")
            return
        buffer = self._buffer
        buffer += payload
        while len(buffer) >= MESSAGE_HEAD_BYTES:
            compressed, size = MESSAGE_HEAD.unpack_from(buffer)
            if size > self._limits.max_message_bytes:
                text = f"SERVER: Received message larger than max ({size} vs. {self._limits.max_message_bytes})"
                self._refuse(StatusCode.RESOURCE_EXHAUSTED, text)
            elif compressed:
                self._refuse(StatusCode.INTERNAL, "a compressed message without grpc-encoding")
            elif self._inbox.qsize() >= MAX_INBOX:
                self._refuse(StatusCode.RESOURCE_EXHAUSTED, "too many messages wait")
            elif len(buffer) >= MESSAGE_HEAD_BYTES + size:
                self._inbox.put_nowait(bytes(buffer[MESSAGE_HEAD_BYTES : MESSAGE_HEAD_BYTES + size]))
                del buffer[: MESSAGE_HEAD_BYTES + size]
                continue
            break
        if self._refused:
            return
        if ended:
            self._inbox.put_nowait(None)
        if self._task is None and not self._inbox.empty():
            self._task = asyncio.get_running_loop().create_task(self._carry(ended=ended))

    def cancelled(self) -> None:
        """Abandon the call."""
        self._release()
        if self._task is not None:
            self._task.cancel()

    def overdue(self, now: float) -> bool:
        """Return whether its deadline has passed; from the first message on the control server keeps it."""
        return self._task is None and self._deadline < now

    def _refuse(self, code: StatusCode, text: str) -> None:
        self.cancelled()
        self._buffer.clear()
        self._refused = True
        self._connection.end(self._number, code, text, begun=self._begun)

    def _release(self, size: int | None = None) -> None:
        """Count that much as gone, or all."""
        size = self._size if size is None else size
        self._size -= size
        self._taker.hold(-size)

    async def _messages(self) -> AsyncIterator[bytes]:
        while (message := await self._inbox.get()) is not None:
            self._release(min(self._size, MESSAGE_HEAD_BYTES + len(message)))
            yield message

    def _call(self, *, ended: bool) -> "aio.UnaryStreamCall[bytes, bytes] | aio.StreamStreamCall[bytes, bytes]":
        """Start the inner call, with its message if that is complete: grpc.aio may lose a refused stream's status."""
        headers = self._headers
        metadata = aio.Metadata(*(entry for entry in headers.metadata if _is_forwarded(*entry)))
        if ended and self._inbox.qsize() == ONE_AND_END:
            method: aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(headers.path)
            return method(cast("bytes", self._inbox.get_nowait()), timeout=headers.remaining_s, metadata=metadata)
        stream: aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(headers.path)
        return stream(self._messages(), timeout=headers.remaining_s, metadata=metadata)

    async def _carry(self, *, ended: bool) -> None:
        code, text, trailing = StatusCode.INTERNAL, Internal().text, aio.Metadata()
        try:
            call = self._call(ended=ended)
            async for message in call:
                if not self._begun:
                    self._connection.begin_messages(self._number)
                    self._begun = True
                if self._connection.send_message(self._number, message) > MAX_UNREAD:
                    call.cancel()
                    raise _UnreadError  # noqa: TRY301 - one end for every way out
            code, text, trailing = await call.code(), await call.details(), await call.trailing_metadata()
        except aio.AioRpcError as error:
            code, text, trailing = error.code(), error.details() or "", error.trailing_metadata()
            if code is StatusCode.UNAVAILABLE and not trailing:  # not the control server's own word
                text = NOT_REACHED
        except _UnreadError:
            code, text = StatusCode.CANCELLED, "the caller does not read"
        except Exception:
            log.exception("a control RPC could not be forwarded")
        self._release()
        self._connection.end(self._number, code, text, tuple(trailing), begun=self._begun)


def _is_forwarded(key: str, value: str | bytes) -> bool:
    if key in NOT_FORWARDED or not KEY.fullmatch(key):
        return False
    return isinstance(value, bytes) or VALUE.fullmatch(value) is not None


class _UnreadError(Exception):
    """The caller does not read what it asked for."""
