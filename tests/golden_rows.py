"""Golden rows of a model that answers y = x0 + 2 x1 + bias, in two groups, and a stand-in for a server of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from servepath.artifacts.manifest import artifact_folder
from servepath.artifacts.reference import FILE, FORMAT
from servepath.protocols.arrays import Array, from_values, to_array
from servepath.protocols.errors import ServeError
from servepath.protocols.types import Answer, Provenance, Request
from tests.manifests import write_manifest

X = np.linspace(-3, 3, 10, dtype=np.float32).reshape(5, 2)
WEIGHTS = np.array([[1.0], [2.0]])
SERVED = Provenance("m", "onnx", "stand-in", "1", 1, "ab" * 32, sha256_observed=True)
Device = Callable[[Array], Array]


def make_reference(exports: Path, model: str, version: int = 1, *, bias: float = 0.0) -> Path:
    """Write EXPORTS/MODEL/reference/VERSION and return the file of the rows."""
    folder = artifact_folder(exports, model, FORMAT, version)
    folder.mkdir(parents=True)
    y = X.astype(np.float64) @ WEIGHTS + bias
    (folder / FILE).write_bytes(safetensors.numpy.save({"x": X, "y": y, "x#1": X[:3], "y#1": y[:3]}))
    write_manifest(folder, model, FORMAT, version)
    return folder / FILE


class StandIn:
    """A stand-in for a server: y = x0 + 2 x1 in float64, and then what a device makes of it, or an error."""

    def __init__(self, device: Device, served: Provenance = SERVED) -> None:
        self.device = device
        self.served = served
        self.batches: list[int] = []
        self.error: Callable[[int], ServeError | None] = lambda _: None

    async def ask(self, request: Request, rows: int) -> Answer | ServeError:
        x = to_array(request.inputs[0])
        assert len(x) == rows
        self.batches.append(rows)
        if (error := self.error(rows)) is not None:
            return error
        y = self.device(x.astype(np.float64) @ WEIGHTS).astype(np.float32)
        return Answer((from_values("y", "FP32", y),), self.served)
