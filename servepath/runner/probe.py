"""Real predictions through the gateway, checked against the reference that export made."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Self

from servepath.protocols import paths, servepath
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.paths import PathInfo
from servepath.protocols.probes import NotReady, ProbeClient, WrongAnswer, check, read_probe_request
from servepath.protocols.types import Answer

# For the list of paths, which computes nothing: where a gateway hangs, make status says so soon.
LISTED_S = 3.0


class Probe:
    """Asks the gateway at HOST:PORT; its requests come from the exports folder."""

    def __init__(self, address: str, exports: Path) -> None:
        self._client = ProbeClient(address)
        self._probe_request = cache(partial(read_probe_request, exports))

    def paths(self) -> Sequence[PathInfo]:
        """Return the deployment paths. Raises NotReady."""
        return paths.decode_answer(self._client.call(servepath.LIST_PATHS, paths.REQUEST, LISTED_S))

    def ask(self, path: PathInfo) -> Answer:
        """Return a path's checked answer. Raises NotReady, WrongAnswer or ArtifactError."""
        if path.refused:
            raise WrongAnswer(f"{path.name} is refused by the gateway: {path.refused}; check what its server loaded")
        probe_request = self._probe_request(path.model, path.stack)
        payload = servepath.encode_request(probe_request.request, path.name, 0)
        try:
            answer = servepath.decode_answer(self._client.call(servepath.METHOD, payload))
        except BackendBadReply as error:
            raise WrongAnswer(f"{path.name}: {error.text}") from error
        if not path.ready:
            raise NotReady(f"{path.name} is not ready yet")
        # The versions of a server that does not name its artifact are not ours.
        if answer.served.sha256 and answer.served.version != probe_request.version:
            raise NotReady(
                f"{path.name} serves version {answer.served.version}, {probe_request.version} is current; run: "
                "make down up"
            )
        check(path.name, answer, probe_request)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.__exit__(*error)
