"""An Open Inference Protocol client on one connection, for tests of whatever server speaks it."""

import struct
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from servepath.protocols import oip
from servepath.protocols.status import DETAILS_KEY
from servepath.protocols.types import Answer, Request, Tensor
from tests.limits import LONG_S


class Client:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        # A pool of its own: channels of one process to one address share a connection otherwise.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._infer = self.channel.unary_unary(oip.METHOD)

    def send(self, payload: bytes, **call: Any) -> bytes:
        reply: bytes = self._infer(payload, **{"timeout": LONG_S, **call})
        return reply

    def start(self, request: Request, timeout: float = LONG_S) -> Any:
        payload = oip.encode_request(request, request.model, request.version)
        return self._infer.future(payload, timeout=timeout)

    def infer(self, request: Request) -> Answer:
        payload = oip.encode_request(request, request.model, request.version)
        return oip.decode_answer(self.send(payload), request.model, "")

    def refused(self, payload: bytes | Request, **call: Any) -> tuple[grpc.StatusCode, str]:
        """Return code and reason of a refusal."""
        if isinstance(payload, Request):
            payload = oip.encode_request(payload, payload.model, payload.version)
        with pytest.raises(grpc.RpcError) as caught:
            self.send(payload, **call)
        return code_and_reason(caught.value)

    def control(self, method: str, request: Any, response: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{oip.SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=LONG_S)


def code_and_reason(error: Any) -> tuple[grpc.StatusCode, str]:
    """Return the gRPC code of an RpcError, and the reason it carries or ""."""
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            Status.FromString(value).details[0].Unpack(info)
    return error.code(), info.reason


def ask(x0: float = 1, x1: float = 2, *, model: str = "simple_nn", version: int = 0) -> Request:
    return Request(model, version, (Tensor("x", "FP32", (1, 2), struct.pack("<2f", x0, x1)),))


def y_of(answer: Answer) -> float:
    (y,) = answer.outputs
    value: float = struct.unpack("<f", y.data)[0]
    return value
