"""Serves two models by Triton: `serve_triton.py GRPC_PORT HTTP_PORT METRICS_PORT MODEL.onnx`.

Run by tests/e2e/test_external.py in a virtual environment of its own (tests/interop/triton.txt): nvidia-pytriton brings
tritonserver, without its ONNX backend, so that Python calls ONNX Runtime.
"""

import sys
import tempfile
from typing import Any

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

KINDS = {"n": np.int64, "s": np.bytes_, "h": np.float16}


def onnx(file: str) -> Any:
    """Return the function of a model in ONNX Runtime."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    @batch
    def infer(**inputs: Any) -> list[Any]:
        return session.run(None, inputs)

    return infer


@batch
def echo(**inputs: Any) -> dict[str, Any]:
    """Answer each input in-NAME as out-NAME, and an output that nobody wants."""
    unwanted = np.full((len(inputs["in-n"]), 1), 7, np.int32)
    return {name.replace("in-", "out-"): array for name, array in inputs.items()} | {"unwanted": unwanted}


def main(grpc_port: int, http_port: int, metrics_port: int, model: str) -> None:
    """Serve until a signal comes."""
    here = dict.fromkeys(("grpc_address", "http_address", "metrics_address"), "127.0.0.1")
    config = TritonConfig(grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port, **here)
    inputs = [Tensor(name=f"in-{name}", dtype=kind, shape=(1,)) for name, kind in KINDS.items()]
    outputs = [Tensor(name=f"out-{name}", dtype=kind, shape=(1,)) for name, kind in KINDS.items()]
    unwanted = Tensor(name="unwanted", dtype=np.int32, shape=(1,))
    x, y = Tensor(name="x", dtype=np.float32, shape=(2,)), Tensor(name="y", dtype=np.float32, shape=(1,))
    with tempfile.TemporaryDirectory() as folder, Triton(config=config, workspace=f"{folder}/triton") as triton:
        triton.bind("theirs", onnx(model), [x], [y], config=ModelConfig(max_batch_size=64))
        triton.bind("echo", echo, inputs, [*outputs, unwanted], config=ModelConfig(max_batch_size=64))
        triton.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
