"""Serves two models by MLServer: `serve_mlserver.py GRPC_PORT HTTP_PORT METRICS_PORT MODEL.onnx [WORKERS [THREADS]]`.

Run by tests/e2e/test_external.py and studies/foreign in a virtual environment of its own (tests/interop/mlserver.txt).
Without WORKERS the models run in the server's own process. THREADS: of each run, 1 as onnx_svc under load.
"""

import asyncio
import sys
import tempfile

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput


class Onnx(MLModel):
    """A model in ONNX Runtime; its version is no number."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        uri, extra = self.settings.parameters.uri, self.settings.parameters.extra
        options.intra_op_num_threads = extra["threads"]
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        names = [output.name for output in self._session.get_outputs()]
        outputs = [
            NumpyCodec.encode_output(name, array)
            for name, array in zip(names, self._session.run(names, inputs), strict=True)
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


class Echo(MLModel):
    """Answers each input in-NAME as out-NAME, and an output that nobody wants."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        outputs = [ResponseOutput(name="unwanted", shape=[1], datatype="INT32", data=[7])]
        outputs += [_echo(tensor) for tensor in payload.inputs]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _echo(tensor: RequestInput) -> ResponseOutput:
    # Not by NumpyCodec: it takes the last axis of BYTES for the length of every string.
    name = tensor.name.replace("in-", "out-")
    return ResponseOutput(name=name, shape=tensor.shape, datatype=tensor.datatype, data=tensor.data)


async def main(ports: dict[str, int], model: str, workers: int, threads: int) -> None:
    """Serve until a signal comes."""
    parameters = ModelParameters(uri=model, version="blue", extra={"threads": threads})
    onnx = ModelSettings(name="theirs", implementation=Onnx, parameters=parameters)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as metrics:  # otherwise in the folder where it starts
        own = {"parallel_workers": workers, "metrics_dir": metrics, "debug": False}
        server = MLServer(Settings(host="127.0.0.1", **own, **ports))
        await server.start([onnx, ModelSettings(name="echo", implementation=Echo)])


if __name__ == "__main__":
    more = [*map(int, sys.argv[5:7]), *(0, 1)[len(sys.argv[5:7]) :]]
    ports = dict(zip(("grpc_port", "http_port", "metrics_port"), map(int, sys.argv[1:4]), strict=True))
    asyncio.run(main(ports, sys.argv[4], *more))
