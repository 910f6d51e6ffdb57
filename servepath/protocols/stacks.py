"""The one table that joins a stack (a server product) to its process, its artifact format and its codec."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Stack:
    """One server product.

    name: key, metric label and table row. service: process, folder and log name. artifact_format: what it loads.
    address_variable: the environment variable that holds its HOST:PORT.
    """

    name: str
    service: str
    artifact_format: str
    address_variable: str


STACKS = MappingProxyType(
    {
        stack.name: stack
        for stack in (
            Stack("torchserve", "torch_svc", "mar", "TORCH_SVC_ADDR"),
            Stack("tfserving", "tf_svc", "saved_model", "TF_SVC_ADDR"),
            Stack("onnx", "onnx_svc", "onnx", "ONNX_SVC_ADDR"),
        )
    },
)
