"""Real predictions by a service in its own protocol, checked against the reference that export made."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.errors import ServeError
from servepath.protocols.probes import NotReady, ProbeClient, check, read_probe_request
from servepath.protocols.stacks import PATH_STACKS, service_files
from servepath.protocols.token import credentials_of
from servepath.runner import ports
from servepath.runner.config import Service


class PathProbe(ExitStack):
    """Probes one service's paths; connects once the service listens. Use it in a `with` statement."""

    def __init__(self, service: Service, exports: Path, names: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._address = service.address
        self._files = service_files(service.environment)
        self._probe_requests = {name: read_probe_request(exports, *name) for name in names}
        self._clients: dict[str, ProbeClient] = {}

    def right(self, model: str, stack: str) -> bool:
        """Return whether a path answers correctly now. Raises WrongAnswer."""
        if stack not in self._clients:
            if not ports.accepts(self._address):
                return False
            credentials = credentials_of(PATH_STACKS[stack], self._files)
            self._clients[stack] = self.enter_context(ProbeClient(self._address, credentials.metadata))
        codec, probe_request = STACK_CODECS[stack], self._probe_requests[model, stack]
        called = PATH_STACKS[stack].name_of(model)
        try:
            reply = self._clients[stack].call(codec.METHOD, codec.encode_request(probe_request.request, called, 0))
            answer = codec.decode_answer(reply, model, stack)
        except (NotReady, ServeError):
            return False
        check(f"{model}@{stack}", answer, probe_request)
        return answer.served.version == probe_request.version
