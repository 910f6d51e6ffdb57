"""One way to ask a model: what h2load sends there, sampled answers checked, and what the server counted itself."""

import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from servepath.artifacts.reference import Reference
from servepath.cli.children import Process
from servepath.protocols.codecs import StackCodec
from servepath.protocols.errors import ServeError
from servepath.protocols.probes import NotReady, ProbeClient, ProbeRequest, WrongAnswer, check, probe_request
from servepath.protocols.token import Metadata
from studies.peers.figures import Codes
from studies.peers.h2load import Aim

ASK_S = 5.0
SAMPLES = 3
PREFIX_BYTES = 5
# The gateway's replies tell microseconds in three places: varints of 1 to 3 bytes, and a time of 0 is left out.
GATEWAY_VARYING_BYTES = 40
GRPC_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))


def nothing() -> Metadata:
    """Return no metadata."""
    return ()


@dataclass(frozen=True, slots=True)
class Way:
    """A server and how it is asked.

    address: HOST:PORT. process: whose CPU is counted. codec: a module of servepath.protocols. asked: the model's name
    there, "{}" stands for the model. metrics_port: of the Prometheus counters that count its calls, or None. varying:
    bytes by which right replies may differ in length.
    """

    address: str
    process: Process
    codec: StackCodec
    asked: str = "{}@onnx"
    metrics_port: int | None = None
    metadata: Callable[[], Metadata] = nothing
    varying: int = 0

    def aim(self, model: Reference, folder: Path) -> Aim:
        """Write the request for h2load to a file in `folder`, and return where it goes."""
        payload = self._encode(model.model, probe_request(model, slice(1)))
        body = folder / f"{self.address.rpartition(':')[2]}-{model.model}.request"
        body.write_bytes(b"\0" + len(payload).to_bytes(4, "big") + payload)
        return Aim(f"http://{self.address}{self.codec.METHOD}", (*GRPC_HEADERS, *self.metadata()), body)

    def sample(self, model: Reference) -> tuple[int, int]:
        """Check sample rows; return the smallest and largest size of a correct reply in bytes. Raises WrongAnswer."""
        with ProbeClient(self.address, self.metadata) as client:
            sizes = [len(self._answer(client, model, row)) + PREFIX_BYTES for row in range(SAMPLES)]
        return min(sizes) - self.varying, max(sizes) + self.varying

    def codes(self) -> Codes | None:
        """Return how many calls the server has ended, by gRPC code; None when it does not say."""
        if self.metrics_port is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=ASK_S)
        try:
            connection.request("GET", "/metrics")
            return read_codes(connection.getresponse().read().decode())
        finally:
            connection.close()

    def _encode(self, model: str, asked: ProbeRequest) -> bytes:
        return self.codec.encode_request(asked.request, self.asked.format(model), 0)

    def _answer(self, client: ProbeClient, model: Reference, row: int) -> bytes:
        """Return the reply to one row, once it is known to be right."""
        asked = probe_request(model, slice(row, row + 1))
        try:
            reply = client.call(self.codec.METHOD, self._encode(model.model, asked))
            check(f"row {row} of {model.model}", self.codec.decode_answer(reply, model.model, ""), asked)
        except NotReady as error:
            raise WrongAnswer(str(error)) from error
        except ServeError as error:
            raise WrongAnswer(f"a reply that cannot be read: {error}") from error
        return reply


def read_codes(text: str) -> Mapping[str, int]:
    """Read the counters of ended calls, by code over all models, from Prometheus text."""
    codes: dict[str, int] = {}
    for code, count in re.findall(r'_requests_total\{[^}]*\bcode="(\w+)"[^}]*\} (\S+)', text):
        codes[code] = codes.get(code, 0) + int(float(count))
    return codes


def difference(before: Codes | None, after: Codes | None) -> Codes | None:
    """Return the difference of two readings of the counters."""
    if before is None or after is None:
        return None
    return {code: count - before.get(code, 0) for code, count in after.items()}
