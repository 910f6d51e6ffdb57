"""Real questions to a service in its own protocol, checked against the reference that export made."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.errors import ServeError
from servepath.protocols.questions import Asker, NotReady, check, read_question
from servepath.protocols.stacks import STACKS, service_files
from servepath.protocols.token import credentials_of
from servepath.runner import ports
from servepath.runner.config import Service


class PathProbe(ExitStack):
    """Probes one service's paths; connects once the service listens. Use it in a `with` statement."""

    def __init__(self, service: Service, exports: Path, names: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._address = service.address
        self._files = service_files(service.environment)
        self._questions = {name: read_question(exports, name[0]) for name in names}
        self._askers: dict[str, Asker] = {}

    def right(self, model: str, stack: str) -> bool:
        """Return whether a path answers correctly now. Raises WrongAnswer."""
        if stack not in self._askers:
            if not ports.accepts(self._address):
                return False
            credentials = credentials_of(STACKS[stack], self._files)
            self._askers[stack] = self.enter_context(Asker(self._address, credentials.metadata))
        codec, question = STACK_CODECS[stack], self._questions[model, stack]
        try:
            reply = self._askers[stack].call(codec.METHOD, codec.encode_request(question.request, model, 0))
            answer = codec.decode_answer(reply, model, stack)
        except (NotReady, ServeError):
            return False
        check(f"{model}@{stack}", answer, question)
        return answer.served.version == question.version
