"""PyTorch -> ONNX by torch.onnx.export."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
import torch

from export.errors import ExportError
from export.onnx_file import BATCH_NAME, load, save
from export.trained import Trained
from store.manifest import hash_files as contents
from store.spec import TensorSpec

__all__ = ["contents", "load", "write"]

DTYPES = MappingProxyType({"FP32": torch.float32, "FP64": torch.float64})


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.onnx."""
    model = trained.model.build().eval()
    model.load_state_dict(safetensors.torch.load_file(trained.path))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # torch's own code
        program = torch.onnx.export(
            model,
            tuple(_example(tensor) for tensor in trained.spec.inputs),
            input_names=[tensor.name for tensor in trained.spec.inputs],
            output_names=[tensor.name for tensor in trained.spec.outputs],
            dynamic_shapes=tuple({0: torch.export.Dim(BATCH_NAME)} for _ in trained.spec.inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{trained.name} as onnx: torch.onnx.export gave no program")
    return save(program.model_proto, trained.spec, folder)


def _example(tensor: TensorSpec) -> torch.Tensor:
    """Give two rows: an example of one row could fix the batch axis to one."""
    return torch.zeros((2, *tensor.shape[1:]), dtype=DTYPES[tensor.dtype])
