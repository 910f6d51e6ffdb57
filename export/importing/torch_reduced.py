"""A program of torch.export in bfloat16: its weights, and the numbers between them, take and give what it did."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from export import mar
from export.importing import torch_module
from export.importing.axes import Declared
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import Proof
from export.importing.torch_source import PROGRAM_FILE

DTYPES = MappingProxyType({"bf16": torch.bfloat16})


def write(source: Path, folder: Path, precision: str, proof: Proof, hints: Hints) -> Mapping[str, str]:
    """Write FOLDER/model.pt2 from SOURCE/model.pt2 in a precision; return facts, of which there are none.

    Raises Refused.
    """
    file = source / PROGRAM_FILE
    if not file.is_file():
        raise Refused(f"{precision} needs a program of torch.export: TorchScript fixes dtypes in its code")
    inputs = [Declared(tensor.name, tensor.dtype, tensor.shape) for tensor in proof.spec.inputs]
    torch_module.write(_Reduced(torch.export.load(file), DTYPES[precision]), inputs, hints, folder / PROGRAM_FILE)
    return {}


class _Reduced(torch.nn.Module):  # type: ignore[misc]
    """A program whose float32 is another dtype, but for what it is given and what it returns."""

    def __init__(self, program: torch.export.ExportedProgram, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # Its guards are of float32's. Masks, for one, are made in a dtype that the graph names.
        self.module = program.module(check_guards=False).to(dtype)
        for node in self.module.graph.nodes:
            node.args, node.kwargs = (map_aggregate(each, self._reduced) for each in (node.args, node.kwargs))
        self.module.recompile()
        self.call = mar.handler_module().caller(program, self.module)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return what the program returns, in float32."""
        given = [tensor.to(self.dtype) if tensor.dtype == torch.float32 else tensor for tensor in tensors]
        return pytree.tree_map(lambda each: each.float() if each.dtype == self.dtype else each, self.call(*given))

    def train(self, mode: bool = True) -> "_Reduced":  # noqa: ARG002, FBT001, FBT002 - torch's
        """Return itself: a program is for inference alone, and says so by an error."""
        return self

    def _reduced(self, value: Any) -> Any:
        return self.dtype if value is torch.float32 else value
