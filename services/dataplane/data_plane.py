"""The data plane of one process: raw calls in, decoded, submitted, encoded and answered; counted while in flight."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Protocol

from servepath.protocols.errors import DeadlineExceeded, DeadlineStage, Draining, Internal, Overloaded, ServeError
from servepath.protocols.types import Answer, Request
from services.dataplane.backend import Backend, Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.dataplane.deadlines import Deadlines
from services.dataplane.listener import RawCall

log = logging.getLogger(__name__)
# A drain ends when no call has come for the first of these, and after the second even if callers do not care.
QUIET_S = 0.1
MAX_LINGER_S = 1.0
# Of the requests in flight, as they came; a lone one may have more. Those above SMALL_BYTES leave a quarter of it to
# small ones: a few large calls to a slow path close no other.
MAX_BYTES, SMALL_BYTES = 2**27, 2**16


class Codec(Protocol):
    """The server side of a protocol; the modules of servepath.protocols are such."""

    def decode_request(self, payload: bytes, /) -> Request:
        """Read a request. Raises BadInput."""

    def encode_answer(self, request: Request, answer: Answer, /) -> bytes:
        """Return the reply's bytes."""


class DataPlane:
    """Joins listeners to a backend.

    on_complete: sees every call's outcome last (metrics, timings) and gives the outcome to send; the call is None where
    the request could not be decoded. batch_scope: open while a list of several calls is handed over.
    caller_key: the metadata key whose value becomes each call's key, if any; it may change at any time.
    """

    def __init__(
        self,
        backend: Backend,
        codecs: Mapping[str, Codec],
        on_complete: Callable[[Call | None, Outcome], Outcome],
        batch_scope: BatchScope | None = None,
        caller_key: str = "",
    ) -> None:
        self._backend = backend
        self._codecs = codecs
        self._finish = on_complete
        self._batch_scope = batch_scope or BatchScope()
        self.caller_key = caller_key
        self._draining = False
        self._last_arrival = 0.0
        self._in_flight = 0
        self._bytes = 0
        self._deadlines = Deadlines()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Return the number of calls that have not ended."""
        return self._in_flight

    @property
    def draining(self) -> bool:
        """Return whether new calls are refused because the process is shutting down."""
        return self._draining

    def dispatch(self, raws: list[RawCall]) -> None:
        """Accept raw calls; every one is answered or refused, now or later."""
        if len(raws) == 1:
            self._take(raws[0])
            return
        with self._batch_scope:
            for raw in raws:
                self._take(raw)

    async def drain(self, grace_s: float) -> None:
        """Refuse new calls and wait for those in flight, at most `grace_s` seconds; then for a quiet moment.

        Calls that the server library has read and not yet handed over would be CANCELLED by its stop; while it is kept
        running they are told that this process is shutting down, and their callers know that they may go elsewhere.
        """
        self._draining = True
        self._last_arrival = monotonic()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d calls still in flight after %g s of draining", self._in_flight, grace_s)
        end = monotonic() + MAX_LINGER_S
        while (rest_s := min(self._last_arrival + QUIET_S, end) - monotonic()) > 0:  # noqa: ASYNC110 - no polling
            await asyncio.sleep(rest_s)

    def _take(self, raw: RawCall) -> None:
        codec = self._codecs[raw.method]
        read = self._read(raw, codec)
        if isinstance(read, ServeError):
            self._finish(None, read)
            raw.fail(read)
        else:
            deadline = raw.deadline
            if read.timeout_us:
                deadline = min(deadline, monotonic() + read.timeout_us / 1e6)
            self._submit(raw, codec, Call(read, deadline))

    def _read(self, raw: RawCall, codec: Codec) -> Request | ServeError:
        if self._draining:
            self._last_arrival = monotonic()
            return Draining()
        if raw.deadline <= monotonic():
            return DeadlineExceeded(DeadlineStage.ON_ARRIVAL)
        size = len(raw.payload)
        if self._in_flight and self._bytes + size > (MAX_BYTES if size <= SMALL_BYTES else MAX_BYTES * 3 // 4):
            return Overloaded(f"{self._in_flight} requests of {self._bytes} bytes together are in flight")
        try:
            return codec.decode_request(raw.payload)
        except ServeError as error:
            return error
        except Exception:
            log.exception("a request could not be decoded")
            return Internal()

    def _submit(self, raw: RawCall, codec: Codec, call: Call) -> None:
        if not self._in_flight:
            self._idle.clear()
        self._in_flight += 1
        size = len(raw.payload)
        self._bytes += size
        raw.payload = b""  # the call has a copy, and may wait long
        if self.caller_key:
            call.key = raw.metadata.get(self.caller_key, "")
        self._deadlines.watch(call)
        call.add_done_callback(partial(self._answer, raw, codec, call, size))
        raw.on_cancel(call.cancel)
        try:
            self._backend.submit(call)
        except Exception:
            log.exception("a backend raised instead of ending the call")
            call.end(Internal())

    def _translated(self, translate: Callable[[Answer], Outcome], answer: Answer) -> Outcome:
        try:
            return translate(answer)
        except Exception:
            log.exception("an answer could not be translated")
            return Internal()

    def _answer(self, raw: RawCall, codec: Codec, call: Call, size: int, outcome: Outcome) -> None:
        self._deadlines.forget(call)
        self._in_flight -= 1
        self._bytes -= size
        if not self._in_flight:
            self._idle.set()
        if call.translate is not None and not isinstance(outcome, ServeError):
            outcome = self._translated(call.translate, outcome)
        outcome = self._finish(call, outcome)
        if isinstance(outcome, ServeError):
            raw.fail(outcome)
            return
        try:
            payload = codec.encode_answer(call.request, outcome)
        except Exception:
            log.exception("an answer could not be encoded")
            raw.fail(Internal())
        else:
            raw.reply(payload)
