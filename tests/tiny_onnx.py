"""Tiny ONNX models with manifests: exports folders in milliseconds, without a training framework.

y = x0 + 2 x1 + bias, so that every version and path of a test can be told from the others.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servepath.artifacts import atomic, manifest
from servepath.artifacts.spec import Spec
from tests.manifests import SPEC, write_manifest

WEIGHTS = (1.0, 2.0)


def linear(bias: float) -> bytes:
    """Return the ONNX file of y = x0 + 2 x1 + bias."""
    weights = numpy_helper.from_array(np.array([WEIGHTS], np.float32).T, "w")
    offset = numpy_helper.from_array(np.array([bias], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [weights, offset],
    )
    return model_file(graph)


def model_file(graph: onnx.GraphProto) -> bytes:
    """Return a graph as an ONNX file that the current ONNX Runtime reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def make_export(
    exports: Path,
    model: str,
    version: int = 1,
    *,
    content: bytes,
    spec: Spec = SPEC,
    current: bool = True,
    change: Callable[[Path], None] | None = None,
) -> manifest.Manifest:
    """Write EXPORTS/MODEL/onnx/VERSION, make it current, and return its manifest; `change` spoils it after hashing."""
    folder = manifest.artifact_folder(exports, model, "onnx", version)
    with atomic.new_folder(folder) as temporary:
        (temporary / "model.onnx").write_bytes(content)
        made = write_manifest(temporary, model, "onnx", version, spec)
        if change is not None:
            change(temporary)
    if current:
        atomic.write_file(exports / model / "current", str(version))
    return made
