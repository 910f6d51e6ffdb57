"""Serves two models by Triton: `serve_triton.py GRPC_PORT HTTP_PORT METRICS_PORT MODEL.onnx [INSTANCES [THREADS]]`.

Run by tests/e2e/test_external.py and studies/foreign in a virtual environment of its own (tests/interop/triton.txt):
nvidia-pytriton brings tritonserver, without its ONNX backend, so that Python calls ONNX Runtime.
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


class Onnx:
    """A model in ONNX Runtime, as Triton calls it: requests of one shape in batches."""

    def __init__(self, file: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.inputs = [_tensor(node) for node in self._session.get_inputs()]
        self.outputs = [_tensor(node) for node in self._session.get_outputs()]

    @batch
    def infer(self, **inputs: Any) -> list[Any]:
        """Return the outputs in their order."""
        return self._session.run(None, inputs)


def _tensor(node: Any) -> Tensor:
    """Return an input or output without its batch axis."""
    kind = np.dtype({"float": "float32"}.get(found := node.type[len("tensor(") : -1], found)).type
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape[1:])
    return Tensor(name=node.name, dtype=kind, shape=shape)


@batch
def echo(**inputs: Any) -> dict[str, Any]:
    """Answer each input in-NAME as out-NAME, and an output that nobody wants."""
    unwanted = np.full((len(inputs["in-n"]), 1), 7, np.int32)
    return {name.replace("in-", "out-"): array for name, array in inputs.items()} | {"unwanted": unwanted}


def main(ports: dict[str, int], model: str, instances: int, threads: int) -> None:
    """Serve until a signal comes."""
    here = dict.fromkeys(("grpc_address", "http_address", "metrics_address"), "127.0.0.1")
    config = TritonConfig(**ports, **here)
    inputs = [Tensor(name=f"in-{name}", dtype=kind, shape=(1,)) for name, kind in KINDS.items()]
    outputs = [Tensor(name=f"out-{name}", dtype=kind, shape=(1,)) for name, kind in KINDS.items()]
    unwanted = Tensor(name="unwanted", dtype=np.int32, shape=(1,))
    models = [Onnx(model, threads) for _ in range(instances)]
    with tempfile.TemporaryDirectory() as folder, Triton(config=config, workspace=f"{folder}/triton") as triton:
        calls = [each.infer for each in models]
        triton.bind("theirs", calls, models[0].inputs, models[0].outputs, config=ModelConfig(max_batch_size=64))
        triton.bind("echo", echo, inputs, [*outputs, unwanted], config=ModelConfig(max_batch_size=64))
        triton.serve()


if __name__ == "__main__":
    named = dict(zip(("grpc_port", "http_port", "metrics_port"), map(int, sys.argv[1:4]), strict=True))
    # 0 threads are ONNX Runtime's own choice.
    main(named, sys.argv[4], *map(int, [*sys.argv[5:7], *("1", "0")[len(sys.argv[5:7]) :]]))
