"""PyTorch -> ONNX by torch.onnx.export."""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors.torch
import torch

from export.errors import ExportError
from export.onnx_file import BATCH_NAME, Names, load, save
from export.trained import Trained
from servepath.artifacts.manifest import hash_files as contents
from servepath.artifacts.spec import Spec, TensorSpec

__all__ = ["contents", "load", "write"]

DTYPES = MappingProxyType({"FP32": torch.float32, "FP64": torch.float64})


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.onnx."""
    model = trained.model.build().eval()
    model.load_state_dict(safetensors.torch.load_file(trained.path))
    arguments = _arguments(model, trained.spec)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # torch's own code
        # All inputs have one batch axis: that their names for it become one is what is wanted.
        warnings.filterwarnings("ignore", message=f".*axis name: {BATCH_NAME} will not be used", category=UserWarning)
        program = torch.onnx.export(
            model,
            (),
            kwargs=arguments,
            dynamic_shapes={name: _free(value) for name, value in arguments.items()},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{trained.name} as onnx: torch.onnx.export returned no program")
    return save(program.model_proto, trained.spec, _names(program.exported_program.call_spec, trained.spec), folder)


def _arguments(model: torch.nn.Module, spec: Spec) -> dict[str, Any]:
    """Return example arguments of `forward`: the inputs by name or, where it takes one argument, a dict of them.

    Raises ExportError when neither fits.
    """
    examples = {tensor.name: _example(tensor) for tensor in spec.inputs}
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty]
    if set(needed) <= examples.keys() <= {each.name for each in parameters}:
        return examples
    if len(needed) == 1:
        return {needed[0]: next(iter(examples.values())) if len(examples) == 1 else examples}
    said = f"forward takes {', '.join(needed)}, its spec says {', '.join(examples)}"
    raise ExportError(f"{said}; name its parameters as the spec's inputs, or let it take one dict of them")


def _example(tensor: TensorSpec) -> torch.Tensor:
    """Return two rows: an example of one row could fix the batch axis to one."""
    return torch.zeros((2, *tensor.shape[1:]), dtype=DTYPES[tensor.dtype])


def _free(example: Any) -> Any:
    if isinstance(example, dict):
        return {name: _free(value) for name, value in example.items()}
    return {0: torch.export.Dim(BATCH_NAME)}


def _names(called: Any, spec: Spec) -> Names:
    """Return what the model calls the inputs and outputs of an exported graph, whose order is the program's own.

    called: the forms of a call's arguments and results. A tuple or list of results has no names of its own: it is in
    the spec's order, as TorchServe's handler takes it, too.
    """
    _, arguments = called.in_spec.unflatten(range(called.in_spec.num_leaves))
    inputs = [pair for name, place in arguments.items() for pair in _places(place, [name])]
    outputs = _places(called.out_spec.unflatten(range(called.out_spec.num_leaves)), [t.name for t in spec.outputs])
    return Names(*([name for name, _ in sorted(pairs, key=itemgetter(1))] for pairs in (inputs, outputs)))


def _places(form: Any, otherwise: Sequence[str]) -> list[tuple[str, int]]:
    """Return the name and place of each tensor of a form that holds places; `otherwise` are names where it has none."""
    if hasattr(form, "_asdict"):
        form = form._asdict()  # a named tuple's public way
    if isinstance(form, Mapping):
        return list(form.items())
    places = list(form) if isinstance(form, list | tuple) else [form]
    if len(places) != len(otherwise):
        raise ExportError(f"the model has the outputs {len(places)} outputs, its spec says {', '.join(otherwise)}")
    return list(zip(otherwise, places, strict=True))
