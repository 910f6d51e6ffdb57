"""The call to a path's server: one address, one channel, one codec."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic, perf_counter_ns
from typing import Protocol

import grpc
from grpc import aio

from services.gateway.artefacts import Artefacts
from services.serving.backend import Call, Outcome
from services.wire.codecs import StackCodec
from services.wire.errors import BackendBadReply, Draining, Internal, ServeError, TooLarge, Where
from services.wire.signature import Signature
from services.wire.types import Answer, Served

log = logging.getLogger(__name__)
Metadata = tuple[tuple[str, str], ...]

CHANNEL_OPTIONS = (
    # A proxy for the web is no way to a server of ours; grpc would ask it even for 127.0.0.1.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    # Its own connection, whatever other channels lead to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that comes back is found within a second; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
)
# TorchServe drops its old key a moment before the new one can be in the file: 4-14 ms, twice an hour.
RENEWAL_PAUSES_S = (0.0, 0.01, 0.02, 0.04)


class Credentials(Protocol):
    """What a server wants to see before it answers."""

    def metadata(self) -> Metadata:
        """Give the metadata of a call."""

    def reload(self) -> Metadata:
        """Read the credentials anew, for the server refused them, and give the metadata."""


class NoCredentials:
    """For servers that ask for none."""

    def metadata(self) -> Metadata:
        """Give nothing."""
        return ()

    def reload(self) -> Metadata:
        """Give nothing."""
        return ()


class Replica:
    """One server of one path.

    engine_of: gives engine and version from a reply's trailing metadata, for protocols whose replies do not name them.
    """

    def __init__(
        self,
        *,
        model: str,
        stack: str,
        address: str,
        codec: StackCodec,
        signature: Signature,
        artefacts: Artefacts,
        max_message_bytes: int,
        credentials: Credentials,
        engine_of: Callable[[Metadata], tuple[str, str]],
    ) -> None:
        self.model = model
        self.stack = stack
        self._codec = codec
        self._signature = signature
        self._artefacts = artefacts
        self._max_message_bytes = max_message_bytes
        self._credentials = credentials
        self._engine_of = engine_of
        options = (*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes))
        self._channel = aio.insecure_channel(address, options=options)
        self._rpc: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(codec.METHOD)
        self.ready_now = False
        # The last answer's origin; until there is one, what the manifest promises.
        current = artefacts.current
        self.served = Served(model, stack, "", "", current.version, current.sha256, sha256_observed=False)

    def submit(self, call: Call) -> None:
        """Send the call; its outcome follows."""
        call.where = Where.IN_BACKEND
        task = asyncio.ensure_future(self._predict(call))

        def cancel(_: Outcome) -> None:
            task.cancel()

        # A call that ends otherwise (deadline, cancelled) takes its RPC with it. The task never ends the call itself,
        # or this would cancel the task that is running. A channel that is closed cancels the task, and not the call.
        call.then(cancel)
        task.add_done_callback(lambda done: call.end(Draining() if done.cancelled() else done.result()))

    def ready(self) -> bool:
        """Say whether the last probe was answered."""
        return self.ready_now

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _predict(self, call: Call) -> Outcome:
        try:
            return await self._answer(call)
        except ServeError as error:
            return error
        except aio.AioRpcError as error:
            return self._codec.translate(error.code(), error.details() or "")
        except Exception:
            log.exception("a call to %s@%s failed in the gateway", self.model, self.stack)
            return Internal()

    async def _answer(self, call: Call) -> Answer:
        request = call.request
        payload = self._codec.encode_request(request, self.model, request.version)
        if len(payload) > self._max_message_bytes:
            raise TooLarge(f"{len(payload)} bytes for {self.stack}, which takes {self._max_message_bytes} at most")
        sent_ns = perf_counter_ns()
        reply, trailing = await self._send(payload, call.deadline)
        backend_us = (perf_counter_ns() - sent_ns) // 1000
        answer = self._codec.decode_answer(reply, self.model, self.stack)
        # Not every server can leave outputs out.
        outputs = tuple(output for output in answer.outputs if not request.outputs or output.name in request.outputs)
        self._signature.check_answer(outputs, call.rows, request.outputs)
        self.served = self._complete(answer.served, trailing)
        return Answer(outputs, self.served._replace(backend_us=backend_us))

    async def _send(self, payload: bytes, deadline: float) -> tuple[bytes, Metadata]:
        for pause_s in RENEWAL_PAUSES_S:
            try:
                return await self._send_once(payload, deadline)
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                    raise
            await asyncio.sleep(pause_s)
            self._credentials.reload()
        return await self._send_once(payload, deadline)

    async def _send_once(self, payload: bytes, deadline: float) -> tuple[bytes, Metadata]:
        rpc = self._rpc(payload, timeout=max(deadline - monotonic(), 0), metadata=self._credentials.metadata())
        reply = await rpc
        return reply, tuple((key, value) for key, value in await rpc.trailing_metadata() if isinstance(value, str))

    def _complete(self, served: Served, trailing: Metadata) -> Served:
        """Fill in what the protocol's replies do not carry."""
        if not served.engine:
            engine, engine_version = self._engine_of(trailing)
            served = served._replace(engine=engine, engine_version=engine_version)
        manifest = self._artefacts.find_served(served.version)
        if manifest is None:
            raise BackendBadReply(f"{self.stack} answered with version {served.version}, which has no manifest")
        if served.sha256 and served.sha256 != manifest.sha256:
            raise BackendBadReply(f"{self.stack} serves an artefact that is not the one in the manifest")
        return served if served.sha256 else served._replace(sha256=manifest.sha256)
