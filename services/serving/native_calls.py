"""What a stream of the native front is: a call of a hot method, or one that a grpc.aio server behind it answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol, cast

from grpc import StatusCode, aio

from services.http2.frames import MESSAGE_HEAD, STREAM_CLOSED, ProtocolError
from services.serving.front import FrontLimits
from services.serving.native_connection import NativeConnection
from services.serving.request_headers import RequestHeaders
from services.wire.errors import Internal, ServeError

log = logging.getLogger(__name__)
# Messages that a caller has sent to a control RPC, and bytes of its replies, that may wait.
MAX_INBOX = 1000
MAX_UNREAD = 2**22
# What is in the inbox of a call that is one message.
ONE_AND_END = 2
# What a piece of a message takes beside its content.
PIECE_BYTES = 48
# grpc.aio writes its own.
NOT_FORWARDED = ("user-agent",)


class Taker(Protocol):
    """Who takes whole calls, and says how much of unfinished messages may be held."""

    limits: FrontLimits

    def arrived(self, call: "HotCall") -> None:
        """Take a call whose message is whole."""

    def withdraw(self, call: "HotCall") -> None:
        """Forget a call that has not been handed over."""

    def hold(self, size: int) -> bool:
        """Count bytes of messages that are not whole yet, or no longer; say whether there is room for them."""


class HotCall:
    """A call of a hot method: a message that comes in, then a raw call until it is answered."""

    __slots__ = (
        "_connection",
        "_declared",
        "_ended",
        "_headers",
        "_number",
        "_on_cancel",
        "_parts",
        "_size",
        "_taker",
        "deadline",
        "method",
        "payload",
    )

    def __init__(self, taker: Taker, connection: NativeConnection, number: int, headers: RequestHeaders) -> None:
        self.method = headers.path
        self.payload = b""
        self.deadline = taker.limits.deadline(headers.remaining_s)
        self._taker = taker
        self._connection = connection
        self._number = number
        self._headers = headers
        self._on_cancel: Callable[[], None] | None = None
        self._ended = False
        # Of a message that comes in several pieces: what has come, its size, and the size that its head declares.
        self._parts: list[bytes] = []
        self._size = 0
        self._declared = -1

    # As a raw call.

    @property
    def metadata(self) -> Mapping[str, str]:
        """Give the caller's metadata; of a repeated key the last value."""
        return {key: value for key, value in self._headers.metadata if isinstance(value, str)}

    def reply(self, payload: bytes) -> None:
        """Answer the call."""
        self._connection.reply(self._number, payload)

    def fail(self, error: ServeError) -> None:
        """Refuse the call."""
        try:
            self._connection.fail(self._number, error)
        except Exception:  # escaping, it would leave the caller waiting until its deadline
            log.exception("a refusal could not be sent")
            self._connection.end(self._number, StatusCode.INTERNAL, Internal().text)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called if the caller goes away."""
        self._on_cancel = callback

    # As a stream.

    def take(self, payload: bytes, *, ended: bool) -> None:
        """Take a piece of the message. Raises ProtocolError after its end."""
        if self._ended:
            raise after_end()
        self._ended = ended
        if ended and not self._parts and len(payload) > MESSAGE_HEAD.size:
            # Nearly every message comes in one piece: the short way to what follows.
            compressed, size = MESSAGE_HEAD.unpack_from(payload)
            if not compressed and size == len(payload) - MESSAGE_HEAD.size <= self._taker.limits.max_message_bytes:
                self.payload = payload[MESSAGE_HEAD.size :]
                self._taker.arrived(self)
                return
        if not payload and not ended:
            return
        self._parts.append(payload)
        if not ended:
            size = len(payload) + PIECE_BYTES
            self._size += size
            if not self._taker.hold(size):
                self._refuse(StatusCode.RESOURCE_EXHAUSTED, "too many large messages are on their way; try again later")
                return
        if self._declared < 0 and not self._read_head(ended=ended):
            return
        if ended:
            self._finish()

    def cancelled(self) -> None:
        """Have the call forgotten, or its end told."""
        self._release()
        if self._on_cancel is not None:
            self._on_cancel()
        else:
            self._taker.withdraw(self)

    def overdue(self, now: float) -> bool:
        """Say whether its deadline has passed while its message was still coming."""
        return not self._ended and self.deadline < now

    def _read_head(self, *, ended: bool) -> bool:
        """Read the message's head once there is one; say whether to go on."""
        start = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if len(start) < MESSAGE_HEAD.size:
            if ended:
                self._refuse(StatusCode.INTERNAL, "the call ended without a message")
            return False
        compressed, self._declared = MESSAGE_HEAD.unpack_from(start)
        self._parts = [start[MESSAGE_HEAD.size :]]
        limit = self._taker.limits.max_message_bytes
        if self._declared > limit:
            text = f"SERVER: Received message larger than max ({self._declared} vs. {limit})"
            self._refuse(StatusCode.RESOURCE_EXHAUSTED, text)
        elif compressed:
            self._refuse(StatusCode.INTERNAL, "a compressed message without the name of its compression")
        else:
            return True
        return False

    def _finish(self) -> None:
        parts = self._parts
        self.payload = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        if self._size:
            self._release()
        if len(self.payload) == self._declared:
            self._taker.arrived(self)
        else:
            self._refuse(StatusCode.INTERNAL, "the call is not one whole message")

    def _refuse(self, code: StatusCode, text: str) -> None:
        self._release()
        self._connection.end(self._number, code, text)

    def _release(self) -> None:
        if self._size:
            self._taker.hold(-self._size)
            self._size = 0


def after_end() -> ProtocolError:
    """Give the error of a caller that goes on after the end of a call."""
    return ProtocolError("a frame after the end of its stream", STREAM_CLOSED)


class ControlCall:
    """A call of any other method, carried to the control server and back message by message."""

    def __init__(
        self,
        taker: Taker,
        channel: aio.Channel,
        connection: NativeConnection,
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
        self._ended = self._refused = False
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._channel = channel
        self._headers = headers
        self._deadline = taker.limits.deadline(headers.remaining_s)
        self._task: asyncio.Task[None] | None = None

    def take(self, payload: bytes, *, ended: bool) -> None:  # noqa: C901 - a refusal a line
        """Pass whole messages on. Raises ProtocolError after their end."""
        if self._ended:
            raise after_end()
        self._ended = ended
        self._size += len(payload)
        if not self._taker.hold(len(payload)):
            self._refuse(StatusCode.RESOURCE_EXHAUSTED, "too many large messages are on their way; try again later")
            return
        buffer = self._buffer
        buffer += payload
        while len(buffer) >= MESSAGE_HEAD.size:
            compressed, size = MESSAGE_HEAD.unpack_from(buffer)
            if size > self._limits.max_message_bytes:
                text = f"SERVER: Received message larger than max ({size} vs. {self._limits.max_message_bytes})"
                self._refuse(StatusCode.RESOURCE_EXHAUSTED, text)
            elif compressed:
                self._refuse(StatusCode.INTERNAL, "a compressed message without the name of its compression")
            elif self._inbox.qsize() >= MAX_INBOX:
                self._refuse(StatusCode.RESOURCE_EXHAUSTED, "too many messages wait")
            elif len(buffer) >= MESSAGE_HEAD.size + size:
                self._inbox.put_nowait(bytes(buffer[MESSAGE_HEAD.size : MESSAGE_HEAD.size + size]))
                del buffer[: MESSAGE_HEAD.size + size]
                continue
            break
        if self._refused:
            return
        if ended:
            self._inbox.put_nowait(None)
        if self._task is None and not self._inbox.empty():
            self._task = asyncio.get_running_loop().create_task(self._carry(ended=ended))

    def cancelled(self) -> None:
        """Give the call up."""
        self._release()
        if self._task is not None:
            self._task.cancel()

    def overdue(self, now: float) -> bool:
        """Say whether its deadline has passed; from the first message on the control server keeps it."""
        return self._task is None and self._deadline < now

    def _refuse(self, code: StatusCode, text: str) -> None:
        self.cancelled()
        self._buffer.clear()
        self._refused = True
        self._connection.end(self._number, code, text)

    def _release(self, size: int | None = None) -> None:
        """Count that much as gone, or all."""
        size = self._size if size is None else size
        self._size -= size
        self._taker.hold(-size)

    async def _messages(self) -> AsyncIterator[bytes]:
        while (message := await self._inbox.get()) is not None:
            self._release(min(self._size, MESSAGE_HEAD.size + len(message)))
            yield message

    def _call(self, *, ended: bool) -> "aio.UnaryStreamCall[bytes, bytes] | aio.StreamStreamCall[bytes, bytes]":
        """Begin the call behind; with its message where that is all: grpc.aio may lose a refused stream's status."""
        headers = self._headers
        metadata = aio.Metadata(*(entry for entry in headers.metadata if entry[0] not in NOT_FORWARDED))
        if ended and self._inbox.qsize() == ONE_AND_END:
            method: aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(headers.path)
            return method(cast("bytes", self._inbox.get_nowait()), timeout=headers.remaining_s, metadata=metadata)
        stream: aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(headers.path)
        return stream(self._messages(), timeout=headers.remaining_s, metadata=metadata)

    async def _carry(self, *, ended: bool) -> None:
        begun = False
        code, text, trailing = StatusCode.INTERNAL, Internal().text, aio.Metadata()
        try:
            call = self._call(ended=ended)
            async for message in call:
                if not begun:
                    self._connection.begin_messages(self._number)
                    begun = True
                if self._connection.send_message(self._number, message) > MAX_UNREAD:
                    call.cancel()
                    raise _UnreadError  # noqa: TRY301 - one end for every way out
            code, text, trailing = await call.code(), await call.details(), await call.trailing_metadata()
        except aio.AioRpcError as error:
            code, text, trailing = error.code(), error.details() or "", error.trailing_metadata()
        except _UnreadError:
            code, text = StatusCode.CANCELLED, "the caller does not read"
        except Exception:
            log.exception("a control RPC could not be carried")
        self._release()
        self._connection.end(self._number, code, text, tuple(trailing), begun=begun)


class _UnreadError(Exception):
    """The caller does not read what it asked for."""
