"""Real predictions through the gateway, checked against the reference that export made."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import grpc
import numpy as np

from servepath.artifacts.reference import read_reference
from servepath.artifacts.spec import Tolerance
from servepath.protocols import arrays, paths, servepath
from servepath.protocols.arrays import Array
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.paths import PathInfo
from servepath.protocols.types import Answer, Request

CALL_S = 3.0
ROWS = 8


class WrongAnswer(Exception):
    """A path answered something else than the reference; the text names it."""


class NotReady(Exception):
    """A call was not answered; the text says why."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A request, the version that must answer it, and the float64 outputs that the answer must have, by name."""

    request: Request
    version: int
    expected: dict[str, Array]
    tolerance: Tolerance


class Probe:
    """Asks the gateway at HOST:PORT; the questions come from the exports folder."""

    def __init__(self, address: str, exports: Path) -> None:
        options = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 200))
        self._channel = grpc.insecure_channel(address, options=options)
        self._question = cache(lambda model: read_probe_request(exports, model))

    def paths(self) -> Sequence[PathInfo]:
        """Return the deployment paths. Raises NotReady."""
        return paths.decode_answer(self._call(servepath.LIST_PATHS, paths.REQUEST))

    def ask(self, path: PathInfo) -> Answer:
        """Return a path's checked answer. Raises NotReady, WrongAnswer or ArtifactError."""
        probe_request = self._question(path.model)
        payload = servepath.encode_request(probe_request.request, path.name, 0)
        try:
            answer = servepath.decode_answer(self._call(servepath.METHOD, payload))
        except BackendBadReply as error:
            raise WrongAnswer(f"{path.name}: {error.text}") from error
        if answer.served.version != probe_request.version:
            raise NotReady(
                f"{path.name} serves version {answer.served.version}, {probe_request.version} is current; run: "
                "make down up"
            )
        check(path.name, answer, probe_request)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def _call(self, method: str, payload: bytes) -> bytes:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        try:
            return call(payload, timeout=CALL_S)
        except grpc.RpcError as error:
            raise NotReady(f"{error.code().name}: {error.details()}") from error


def read_probe_request(exports: Path, model: str) -> ProbeRequest:
    """Return the first rows of the model's current reference. Raises ArtifactError."""
    reference = read_reference(exports, model)
    spec, rows = reference.spec, {name: values[:ROWS] for name, values in reference.arrays.items()}
    inputs = tuple(arrays.from_values(tensor.name, tensor.dtype, rows[tensor.name]) for tensor in spec.inputs)
    expected = {tensor.name: rows[tensor.name] for tensor in spec.outputs}
    return ProbeRequest(Request(model, 0, inputs), reference.version, expected, spec.tolerance)


def check(path: str, answer: Answer, probe_request: ProbeRequest) -> None:
    """Raise WrongAnswer unless the answer's outputs are the expected ones within the model's tolerance."""
    names = {tensor.name for tensor in answer.outputs}
    if names != set(probe_request.expected):
        raise WrongAnswer(f"{path} answered outputs {sorted(names)}, expected {sorted(probe_request.expected)}")
    for tensor in answer.outputs:
        try:
            got, want = arrays.to_array(tensor), probe_request.expected[tensor.name]
        except ValueError as error:
            raise WrongAnswer(
                f"{path} answers with {tensor.name} in bytes that do not match its dtype and shape"
            ) from error
        if got.shape != want.shape or not (np.abs(got - want) <= probe_request.tolerance.limits(want)).all():
            raise WrongAnswer(
                f"{path} returned an incorrect response: {tensor.name} is {got.ravel()[:4].tolist()}, "
                f"the reference says {want.ravel()[:4].tolist()}; check what that server loaded, or run: make export"
            )
