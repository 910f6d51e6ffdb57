"""Real questions to a service in its own protocol, checked against the reference that export made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import grpc

from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.errors import ServeError
from servepath.protocols.stacks import STACKS, service_files
from servepath.protocols.token import credentials_of
from servepath.runner import ports, probe
from servepath.runner.config import Service

CALL_S = 3.0


class PathProbe:
    """Probes one service's paths; connects once the service listens. Use it in a `with` statement."""

    def __init__(self, service: Service, exports: Path, names: Sequence[tuple[str, str]]) -> None:
        self._address = service.address
        self._files = service_files(service.environment)
        self._probe_requests = {name: probe.read_probe_request(exports, name[0]) for name in names}
        self._channel: grpc.Channel | None = None

    def right(self, model: str, stack: str) -> bool:
        """Return whether a path answers correctly now. Raises WrongAnswer."""
        if self._channel is None:
            if not ports.accepts(self._address):
                return False
            self._channel = grpc.insecure_channel(self._address, options=(("grpc.enable_http_proxy", 0),))
        return self._ask(self._channel, model, stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel is not None:
            self._channel.close()

    def _ask(self, channel: grpc.Channel, model: str, stack: str) -> bool:
        codec, probe_request = STACK_CODECS[stack], self._probe_requests[model, stack]
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(codec.METHOD)
        payload = codec.encode_request(probe_request.request, model, 0)
        metadata = credentials_of(STACKS[stack], self._files).metadata()
        try:
            answer = codec.decode_answer(call(payload, timeout=CALL_S, metadata=metadata), model, stack)
        except (grpc.RpcError, ServeError):
            return False
        probe.check(f"{model}@{stack}", answer, probe_request)
        return answer.served.version == probe_request.version
