"""PyTorch -> ONNX by torch.onnx.export."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from export import torch_trained
from export.errors import ExportError
from export.onnx_file import BATCH_NAME, Names, load, save
from export.trained import Trained
from servepath.artifacts.manifest import hash_files as contents

__all__ = ["contents", "load", "write"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.onnx."""
    model, arguments = torch_trained.read(trained)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # torch's own code
        # All inputs have one batch axis: that their names for it become one is what is wanted.
        warnings.filterwarnings("ignore", message=f".*axis name: {BATCH_NAME} will not be used", category=UserWarning)
        program = torch.onnx.export(
            model,
            (),
            kwargs=arguments,
            dynamic_shapes=torch_trained.open_batch(arguments, lambda: torch.export.Dim(BATCH_NAME)),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{trained.name} as onnx: torch.onnx.export returned no program")
    names = Names(*torch_trained.names(program.exported_program.call_spec, trained.spec))
    return save(program.model_proto, trained.spec, names, folder)
