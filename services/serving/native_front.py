"""The front on pygrpc-native: HTTP/2 in Rust, outside the GIL, and calls handed over in lists.

Control RPCs are served by an ordinary grpc.aio server on a Unix socket behind it. services/serving/fronts.py says where
its answers differ from GrpcioFront's.
"""

import asyncio
import ipaddress
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpc import StatusCode, aio
from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

from services.serving.front import Deliver, FrontLimits, PortBusyError, RawCall
from services.serving.grpcio_front import server_options
from services.wire.errors import Draining, Internal, ServeError
from services.wire.status import code_of, details_of, text_of

log = logging.getLogger(__name__)
Metadata = tuple[tuple[str, str | bytes], ...]
# Of one call: kind, number, index of the method, message, grpc-encoding as bytes or else the peer as text, and details:
# metadata, peer, seconds that remain.
Event = tuple[int, int, int, bytes, bytes | str, tuple[Metadata, str, float | None]]

MAX_EVENTS = 256
# One thread does the HTTP/2 work of some 100,000 calls a second; a second one only takes turns with it on small hosts.
IO_THREADS = 1
# The library answers metadata above its own limit with HTTP 431, which clients read as UNKNOWN. So it lets more through
# than is accepted, and the refusal is ours.
LIBRARY_METADATA_BYTES = 128 * 2**10
# HTTP/2 counts so much for each entry of a header list (RFC 9113, 6.5.2).
ENTRY_BYTES = 32
# The library's close drops what it has not yet written, and says nothing of how far it is.
FLUSH_S = 0.05
MEND = "put it behind a proxy that bounds them, or take --front grpcio"


class NativeFront:
    """A server whose hot methods deliver lists of raw calls, all on the event loop's thread.

    A thread sleeps in the library until calls come; from then on the loop itself fetches them, list by list, until
    there are none: under load nothing crosses threads, and the busier the loop, the longer the lists.
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
        self._controls = aio.server(options=server_options(limits))
        for add in controls:
            add(self._controls)
        self._calls: dict[int, _NativeCall] = {}
        # Whose turn it is to fetch: the thread waits for it after each list, the loop frees it when no call is left.
        self._turn = threading.Lock()
        self._stopping = False
        self._ended = asyncio.Event()
        self._front: Any = None
        self._folder: Path | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> int:
        """Listen and give the port. Raises PortBusyError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._front = self._bound()
            self._front.set_fallback(await self._start_controls())
            self._front.start()
        except BaseException:
            await self.stop(0)
            raise
        self._turn.acquire()
        self._thread = threading.Thread(target=self._wait_for_calls, name="front", daemon=True)
        self._thread.start()
        if not _is_local(self._address):
            log.warning("%s takes messages of any size into memory before it refuses them: %s", self._address, MEND)
        port: int = self._front.bound_port
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give the ones in flight `grace_s` seconds, then close."""
        self._stopping = True
        if self._front is None:
            await self._controls.stop(0)  # grpc.aio complains of a server that is dropped without it
            return
        await asyncio.gather(self._controls.stop(grace_s), self._finish(grace_s))
        for number in tuple(self._calls):
            self._cancel(number)
        await asyncio.to_thread(self._front.close)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self._remove_folder()

    def reply(self, number: int, payload: bytes) -> None:
        """Answer a call."""
        if self._end(number):
            self._front.respond(number, payload)

    def fail(self, number: int, error: ServeError) -> None:
        """Refuse a call."""
        if self._end(number):
            self._refuse(number, error)

    def _bound(self) -> Any:
        try:
            return NativeGrpcFront(
                self._address,
                [(path, False) for path in self._hot],
                io_threads=IO_THREADS,
                client_key_metadata="grpc-encoding",
                call_details=True,
                max_concurrent_streams=self._limits.max_streams,
                max_metadata_size=LIBRARY_METADATA_BYTES,
                reuse_port=self._limits.share_port,
            )
        except OSError as error:
            raise PortBusyError(f"cannot listen on {self._address}: the port is in use or not ours") from error

    async def _start_controls(self) -> str:
        self._folder = Path(tempfile.mkdtemp(prefix="servepath-"))  # for its owner only
        socket = f"{self._folder}/controls"
        self._controls.add_insecure_port(f"unix:{socket}")
        await self._controls.start()
        return socket

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _finish(self, grace_s: float) -> None:
        if not self._calls:
            self._ended.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), grace_s)
        await asyncio.sleep(min(FLUSH_S, grace_s))

    def _wait_for_calls(self) -> None:
        while (events := self._front.recv_batch_details(MAX_EVENTS)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._take, events)
            except RuntimeError:  # the loop was closed without stopping this front
                self._front.close()
                self._remove_folder()
                return
            self._turn.acquire()

    def _fetch(self) -> None:
        events = self._front.recv_batch_details(MAX_EVENTS, 0)
        if events:
            self._take(events)
        else:
            self._turn.release()

    def _take(self, events: list[Event]) -> None:
        self._loop.call_soon(self._fetch)
        raws: dict[int, RawCall] = {}
        for kind, number, method, payload, encoding, details in events:
            if kind == EVENT_CANCEL:
                raws.pop(number, None)
                self._cancel(number)
                continue
            metadata, _, remaining_s = details
            if self._refused(number, payload, encoding, metadata):
                continue
            deadline = self._limits.deadline(remaining_s)
            call = _NativeCall(self, number, self._hot[method], payload, deadline, metadata)
            self._calls[number] = raws[number] = call
        if raws:
            self._deliver(list(raws.values()))

    def _refused(self, number: int, payload: bytes, encoding: bytes | str, metadata: Metadata) -> bool:
        """Refuse what is above a limit, with the codes and texts of grpcio's own refusals."""
        limits = self._limits
        if self._stopping:
            self._refuse(number, Draining())
        elif isinstance(encoding, bytes) and encoding != b"identity":
            text = f"Compression algorithm '{encoding.decode('ascii', 'replace')}' is disabled."
            self._front.fail(number, StatusCode.UNIMPLEMENTED.value[0], text)
        elif len(payload) > limits.max_message_bytes:
            text = f"SERVER: Received message larger than max ({len(payload)} vs. {limits.max_message_bytes})"
            self._front.fail(number, StatusCode.RESOURCE_EXHAUSTED.value[0], text)
        elif (size := _size(metadata)) > limits.max_metadata_bytes:
            text = f"received metadata size exceeds limit ({size} vs. {limits.max_metadata_bytes})"
            self._front.fail(number, StatusCode.RESOURCE_EXHAUSTED.value[0], text)
        else:
            return False
        return True

    def _refuse(self, number: int, error: ServeError) -> None:
        try:
            self._front.fail(number, code_of(error).value[0], text_of(error), details_of(error))
        except Exception:  # escaping, it would leave the caller waiting until its deadline
            log.exception("a refusal could not be sent")
            self._front.fail(number, StatusCode.INTERNAL.value[0], Internal().text)

    def _cancel(self, number: int) -> None:
        call = self._calls.get(number)
        if self._end(number) and call is not None:
            call.cancelled()

    def _end(self, number: int) -> bool:
        if self._calls.pop(number, None) is None:
            return False
        if self._stopping and not self._calls:
            self._ended.set()
        return True


class _NativeCall:
    """A raw call of the native front."""

    __slots__ = ("_front", "_metadata", "_number", "_on_cancel", "deadline", "method", "payload")

    def __init__(  # noqa: PLR0917 - made in one place, for every call: keywords would cost
        self, front: NativeFront, number: int, method: str, payload: bytes, deadline: float, metadata: Metadata
    ) -> None:
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


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _size(metadata: Metadata) -> int:
    size = 0
    for key, value in metadata:
        size += len(key) + len(value) + ENTRY_BYTES
    return size
