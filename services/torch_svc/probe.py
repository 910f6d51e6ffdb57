"""Readiness, found by asking: every model must answer one real Predictions call with the artifact that we copied.

TorchServe's own health answers are true before a model is loaded and during the first five minutes of a crash loop.
"""

import logging
import time
from collections.abc import Mapping

import grpc

from servepath.artifacts.manifest import AGAIN, Manifest
from servepath.protocols import torchserve
from servepath.protocols.errors import BackendUnavailable, DeadlineExceeded, Overloaded, ServeError
from servepath.protocols.signature import probe_inputs
from servepath.protocols.token import TokenFile
from servepath.protocols.types import Answer, Request
from services.torch_svc.server import ServerError

log = logging.getLogger(__name__)
# Of one call: as long as the gateway gives one without a deadline, by default. What one look at it may wait.
TIMEOUT_S, LOOK_S = 15.0, 0.1
COMPLAIN_S = 30.0
NOT_YET = (BackendUnavailable, DeadlineExceeded, Overloaded)


def probe_request(name: str, manifest: Manifest) -> bytes:
    """Return the probe request for the artifact's version. name: what TorchServe calls the model."""
    request = Request(name, manifest.version, probe_inputs(manifest))
    return torchserve.encode_request(request, name, manifest.version)


class Probe:
    """Asks each model until it has answered once."""

    def __init__(self, address: str, manifests: Mapping[str, Manifest], token: TokenFile) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(torchserve.METHOD)
        self._pending = dict(manifests)
        self._asked: grpc.Future[bytes] | None = None  # the call to the first of them
        self._token = token
        self._complain_at = time.monotonic() + COMPLAIN_S

    def step(self) -> bool:
        """Return whether all models have answered, after asking one that has not, or looking for its answer.

        Waits for LOOK_S at most. Raises ServerError when one never will answer.
        """
        for model, manifest in self._pending.items():
            try:
                self._check(manifest, self._ask(model, manifest))
                del self._pending[model]
            except grpc.FutureTimeoutError:
                break
            except NOT_YET as error:
                self._complain(model, error)
            except ServeError as error:
                raise ServerError(f"{model} cannot answer a valid request: {error.text}") from error
            break
        return not self._pending

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask(self, model: str, manifest: Manifest) -> Answer:
        if self._asked is None:
            request = probe_request(model, manifest)
            self._asked = self._call.future(request, timeout=TIMEOUT_S, metadata=self._token.metadata())
        try:
            reply = self._asked.result(LOOK_S)
        except grpc.RpcError as error:
            self._asked = None
            raise torchserve.translate(error.code(), error.details() or "") from error
        self._asked = None
        return torchserve.decode_answer(reply, model, "torchserve")

    def _check(self, manifest: Manifest, answer: Answer) -> None:
        served = answer.served
        if (served.version, served.sha256) != (manifest.version, manifest.sha256):
            raise ServerError(
                f"{manifest.model} answered as version {served.version} sha256 {served.sha256}, its manifest says "
                f"version {manifest.version} sha256 {manifest.sha256}; {AGAIN}"
            )

    def _complain(self, model: str, error: ServeError) -> None:
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + COMPLAIN_S
            log.warning("%s has not answered yet: %s", model, error.text)
