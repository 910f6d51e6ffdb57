"""What a prediction is, whatever protocol it came by.

NamedTuples and not dataclasses: several are built per request, and a frozen dataclass costs about three times as much.
"""

from typing import NamedTuple


class Tensor(NamedTuple):
    """A named array in the Open Inference Protocol's raw form.

    dtype: "FP32" and so on. shape: no negative sizes. data: little-endian elements, row-major, without padding; a BYTES
    element is a uint32 length and that many bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Request(NamedTuple):
    """One prediction asked for.

    model: MODEL or MODEL@STACK as the caller wrote it. version: 0 means the current one. outputs: names wanted, empty
    means all. typed: the caller sent typed elements and wants them back so, if its protocol has both forms. timeout_us:
    microseconds that the caller waits, beside its call's own deadline; 0 where it does not say. version_label: in the
    place of a version, what the gateway's deployments.toml calls it.
    """

    model: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    request_id: str = ""
    typed: bool = False
    timeout_us: int = 0
    version_label: str = ""


class Provenance(NamedTuple):
    """Who answered, and how long it took.

    version, sha256: 0 and "" where the server does not name them; the version of an external server is its own number.
    sha256_observed: the server hashed what it loaded; otherwise the hash was looked up in the manifest by version.
    precision: what it computes in ("fp32", "tf32", "int8"), empty where it does not say.
    gateway_us, backend_us: microseconds; 0 where no gateway was on the way. queue_us: of gateway_us, what the request
    waited for a place in a call to the server.
    """

    model: str
    stack: str
    engine: str
    engine_version: str
    version: int
    sha256: str
    sha256_observed: bool
    precision: str = ""
    gateway_us: int = 0
    backend_us: int = 0
    queue_us: int = 0


class Answer(NamedTuple):
    """One prediction made: the outputs asked for, and who computed them."""

    outputs: tuple[Tensor, ...]
    served: Provenance
