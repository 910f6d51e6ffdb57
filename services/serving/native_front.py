"""The front on pygrpc-native: HTTP/2 in Rust, outside the GIL, and calls handed over in lists.

Control RPCs are served by an ordinary grpc.aio server on a Unix socket behind it. What it cannot do (TLS, connection age)
is GrpcioFront's to do.
"""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grpc import aio
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from services.serving.front import Deliver, FrontLimits, PortBusyError, RawCall
from services.wire.errors import ServeError, TooLarge
from services.wire.status import code_of, details_of, text_of

MAX_EVENTS = 256
MAX_STREAMS = 1024
MAX_METADATA_BYTES = 8 * 2**10
# One thread does the HTTP/2 work of some 100,000 calls a second; a second one only takes turns with it on small hosts.
IO_THREADS = 1


class NativeFront:
    """A server whose hot methods deliver lists of raw calls, all on the event loop's thread.

    A thread sleeps in the library until calls come; from then on the loop itself fetches them, list by list, until there
    are none: under load nothing crosses threads, and the busier the loop, the longer the lists.
    """

    def __init__(
        self,
        address: str,
        hot: Sequence[str],
        deliver: Deliver,
        controls: Sequence[Callable[[aio.Server], None]],
        limits: FrontLimits,
    ) -> None:
        self._address = address
        self._hot = tuple(hot)
        self._deliver = deliver
        self._limits = limits
        self._controls = aio.server()
        for add in controls:
            add(self._controls)
        self._calls: dict[int, _NativeCall] = {}
        self._sleep = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="servepath-"))
        self._front: NativeGrpcFront
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread

    async def start(self) -> int:
        """Listen and give the port. Raises PortBusyError."""
        self._loop = asyncio.get_running_loop()
        socket = str(self._folder / "controls")
        self._controls.add_insecure_port(f"unix:{socket}")
        await self._controls.start()
        try:
            self._front = NativeGrpcFront(
                self._address,
                [(path, False) for path in self._hot],
                io_threads=IO_THREADS,
                call_details=True,
                max_concurrent_streams=MAX_STREAMS,
                max_metadata_size=MAX_METADATA_BYTES,
            )
        except OSError as error:
            raise PortBusyError(f"cannot listen on {self._address}: the port is in use or not ours") from error
        self._front.set_fallback(socket)
        self._front.start()
        self._thread = threading.Thread(target=self._wait_for_calls, name="front", daemon=True)
        self._thread.start()
        return self._front.bound_port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give the ones in flight `grace_s` seconds, then close."""
        await self._controls.stop(grace_s)
        await asyncio.to_thread(self._front.close)
        self._sleep.set()
        await asyncio.to_thread(self._thread.join)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_calls(self) -> None:
        while (events := self._front.recv_batch_details(MAX_EVENTS)) is not None:
            self._sleep.clear()
            try:
                self._loop.call_soon_threadsafe(self._take, events)
            except RuntimeError:  # the loop was closed without stopping this front
                return
            self._sleep.wait()

    def _fetch(self) -> None:
        events = self._front.recv_batch_details(MAX_EVENTS, 0)
        if events:
            self._take(events)
        else:
            self._sleep.set()

    def _take(self, events: list) -> None:
        raws: list[RawCall] = []
        for kind, number, method, payload, _, details in events:
            if kind != EVENT_CALL:
                call = self._calls.pop(number, None)
                if call is not None:
                    call.cancelled()
            elif len(payload) > self._limits.max_message_bytes:
                error = TooLarge(f"the message has {len(payload)} bytes, the limit is {self._limits.max_message_bytes}")
                self._front.fail(number, code_of(error).value[0], text_of(error), details_of(error))
            else:
                deadline = self._limits.deadline(details[2])
                call = self._calls[number] = _NativeCall(self, number, self._hot[method], payload, deadline, details[0])
                raws.append(call)
        if raws:
            self._deliver(raws)
        self._loop.call_soon(self._fetch)

    def reply(self, number: int, payload: bytes) -> None:
        """Answer a call."""
        if self._calls.pop(number, None) is not None:
            self._front.respond(number, payload)

    def fail(self, number: int, error: ServeError) -> None:
        """Refuse a call."""
        if self._calls.pop(number, None) is not None:
            self._front.fail(number, code_of(error).value[0], text_of(error), details_of(error))


class _NativeCall:
    """A raw call of the native front."""

    __slots__ = ("_front", "_metadata", "_number", "_on_cancel", "deadline", "method", "payload")

    def __init__(self, front, number, method, payload, deadline, metadata) -> None:
        self.method = method
        self.payload = payload
        self.deadline = deadline
        self._front = front
        self._number = number
        self._metadata = metadata
        self._on_cancel: Callable[[], None] | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        return {key: value for key, value in self._metadata if isinstance(value, str)}

    def reply(self, payload: bytes) -> None:
        self._front.reply(self._number, payload)

    def fail(self, error: ServeError) -> None:
        self._front.fail(self._number, error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback

    def cancelled(self) -> None:
        if self._on_cancel is not None:
            self._on_cancel()
