"""Serves two models by KServe's model server: `serve_kserve.py GRPC_PORT HTTP_PORT METRICS_PORT MODEL.onnx`.

Run by tests/e2e/test_external.py in a virtual environment of its own (tests/interop/kserve.txt). KServe 0.21 cannot be
told an address: it listens on all. It has no port for metrics.
"""

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Onnx(Model):
    """A model in ONNX Runtime; its replies are typed, whatever the requests are."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(name)
        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        inputs = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        names = [output.name for output in self._session.get_outputs()]
        found = zip(names, self._session.run(names, inputs), strict=True)
        return response(self.name, payload, [output(name, "FP32", array, raw=False) for name, array in found])


class Echo(Model):
    """Answers each input in-NAME as out-NAME, and an output that nobody wants.

    Strings are to be raw and the rest typed; where an output is FP16, KServe sends all raw.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        outputs = [InferOutput(name="unwanted", shape=[1], datatype="INT32", data=[7])]
        for tensor in payload.inputs:
            name, raw = tensor.name.replace("in-", "out-"), tensor.datatype == "BYTES"
            outputs.append(output(name, tensor.datatype, tensor.as_numpy(), raw=raw))
        return response(self.name, payload, outputs)


def output(name: str, datatype: str, array: Any, *, raw: bool) -> InferOutput:
    """Return an output with an array's elements."""
    made = InferOutput(name=name, shape=list(array.shape), datatype=datatype)
    made.set_data_from_numpy(array, binary_data=raw)
    return made


def response(model: str, payload: InferRequest, outputs: list[InferOutput]) -> InferResponse:
    """Return the reply to a request."""
    return InferResponse(response_id=payload.id, model_name=model, infer_outputs=outputs)


if __name__ == "__main__":
    ModelServer(grpc_port=int(sys.argv[1]), http_port=int(sys.argv[2]), workers=1, enable_grpc=True).start(
        [Onnx("theirs", sys.argv[4]), Echo("echo")]
    )
