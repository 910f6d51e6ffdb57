"""`python -m services.tf_svc` as a child process, and calls to it in upstream's method names."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import grpc

from servepath.protocols import tfserving
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from tests.limits import LONG_S

START_S = LONG_S


def eventually(condition: Callable[[], Any], timeout_s: float = LONG_S) -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


class TfServer:
    """One server process on a port of its own choice."""

    def __init__(self, exports: Path, run_folder: Path, arguments: Sequence[str] = (), **environment: str) -> None:
        self.exports = exports
        self._log = run_folder.with_suffix(".log")
        command = ["--models", exports, "--port", "0", "--run-dir", run_folder, "--engine", "embedded", *arguments]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.tf_svc", *command], stderr=log, env={**os.environ, **environment}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "channel"):
            self.channel.close()
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """Return everything logged so far."""
        return self._log.read_text()

    def wait_ready(self) -> None:
        """Wait until it listens, and connect."""
        eventually(lambda: "listening on" in self.log or self.process.poll() is not None, START_S)
        listening = re.search(r"listening on (\S+)", self.log)
        assert listening, self.log
        self.address = f"unix:{listening[1]}" if listening[1].startswith("/") else listening[1]
        self.channel = grpc.insecure_channel(self.address)

    def wait_exit(self) -> int:
        """Wait until it ends and return the exit code."""
        return self.process.wait(START_S)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def call(self, method: str, message: Any, kind: Any, timeout_s: float = LONG_S) -> Any:
        """Return a method's reply; raises grpc.RpcError."""
        return kind.FromString(self.channel.unary_unary(method)(message.SerializeToString(), timeout=timeout_s))

    def predict(self, message: pb.PredictRequest) -> pb.PredictResponse:
        """Call Predict."""
        return self.call(tfserving.METHOD, message, pb.PredictResponse)  # type: ignore[no-any-return]

    def metadata(self, message: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
        """Call GetModelMetadata."""
        return self.call(tfserving.METADATA_METHOD, message, pb.GetModelMetadataResponse)  # type: ignore[no-any-return]

    def states(self, model: str) -> dict[int, tuple[int, int]]:
        """Return (state, error code) of each version that GetModelStatus tells of."""
        message = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
        reply = self.call(tfserving.STATUS_METHOD, message, pb.GetModelStatusResponse)
        return {item.version: (item.state, item.status.error_code) for item in reply.model_version_status}


def tensor(dtype: int, shape: Sequence[int], **fields: Any) -> pb.TensorProto:
    """Return a TensorProto; `fields` are its value fields."""
    message = pb.TensorProto(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def ask(model: str, version: int | None = None, **inputs: pb.TensorProto) -> pb.PredictRequest:
    """Return a PredictRequest."""
    message = pb.PredictRequest()
    message.model_spec.name = model
    if version is not None:
        message.model_spec.version.value = version
    for name, value in inputs.items():
        message.inputs[name].CopyFrom(value)
    return message
