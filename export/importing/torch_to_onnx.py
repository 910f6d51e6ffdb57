"""An exported program or a TorchScript file -> ONNX, under the public names."""

import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch

from export.importing.errors import Refused
from export.importing.onnx_source import declare
from export.importing.prove import Proof, first_line
from export.importing.torch_source import PROGRAM_FILE, SCRIPT_FILE
from export.onnx_file import FILE, Names, save

# The newest that PyTorch's exporter of TorchScript writes well; its own default is older.
SCRIPT_OPSET = 17


def convert(source: Path, folder: Path, proof: Proof) -> Mapping[str, str]:
    """Write FOLDER/model.onnx from the files of SOURCE; return facts. Raises Refused."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = source / PROGRAM_FILE
            model = _of_program(program) if program.is_file() else _of_script(source / SCRIPT_FILE, proof)
    except Exception as error:
        raise Refused(f"torch.onnx cannot write it as ONNX: {first_line(error)}") from error
    spec, graph = proof.spec, model.graph
    if len(graph.input) != len(spec.inputs) or len(graph.output) != len(spec.outputs):
        raise Refused(
            f"torch.onnx wrote {len(graph.input)} inputs and {len(graph.output)} outputs of a model that has "
            f"{len(spec.inputs)} and {len(spec.outputs)}"
        )
    facts = save(model, spec, Names(*([t.name for t in tensors] for tensors in (spec.inputs, spec.outputs))), folder)
    written = onnx.load(folder / FILE)
    declare(written.graph, spec)
    (folder / FILE).write_bytes(written.SerializeToString(deterministic=True))
    return facts


def _of_program(file: Path) -> onnx.ModelProto:
    written = torch.onnx.export(torch.export.load(file), dynamo=True, external_data=False, verbose=False)
    model: onnx.ModelProto = written.model_proto
    return model


def _of_script(file: Path, proof: Proof) -> onnx.ModelProto:
    """Return what the older exporter makes of it, the one that keeps TorchScript's conditions and loops."""
    script = torch.jit.load(file).eval()
    group, spec = proof.groups[0], proof.spec
    kinds = [argument.type.kind() for argument in script.forward.schema.arguments[1:]]
    arguments: list[Any] = []
    for tensor, kind in zip(spec.inputs, kinds, strict=False):
        value = torch.from_numpy(group[tensor.name].copy())
        arguments.append(value if kind in {"TensorType", "OptionalType"} else value.item())
    tensors = spec.inputs + spec.outputs
    written = io.BytesIO()
    torch.onnx.export(
        script,
        tuple(arguments),
        written,
        dynamo=False,
        opset_version=SCRIPT_OPSET,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        dynamic_axes={t.name: {p: axis for p, axis in enumerate(t.shape) if isinstance(axis, str)} for t in tensors},
    )
    return onnx.load_from_string(written.getvalue())
