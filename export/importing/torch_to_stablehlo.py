"""An exported program -> StableHLO, under the public names."""

from collections.abc import Mapping
from pathlib import Path

import torch

from export.importing.errors import Refused
from export.importing.prove import first_line
from export.importing.torch_source import PROGRAM_FILE
from export.stablehlo import file, torch_program
from servepath.artifacts.spec import Spec


def convert(source: Path, folder: Path, spec: Spec) -> Mapping[str, str]:
    """Write FOLDER/model.stablehlo from the program in SOURCE; return facts. Raises Refused."""
    names = [[tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs)]
    if not (program := source / PROGRAM_FILE).is_file():
        raise Refused("torchax reads programs of torch.export, and no TorchScript")
    file.stay_on_cpu()
    try:
        return file.save(torch_program.function(torch.export.load(program), *names), spec, folder)
    except Exception as error:
        raise Refused(f"torchax cannot write it as StableHLO: {first_line(error) or type(error).__name__}") from error
