"""Read back what training saved with PyTorch, and what an exported program of it calls its tensors."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from export import mar
from export.errors import ExportError
from export.parity import DTYPES
from export.trained import Trained
from servepath.artifacts.spec import Spec, TensorSpec


def read(trained: Trained) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the trained model and example arguments of its `forward`, by name. Raises ExportError."""
    model = trained.model.build().eval()
    mar.handler_module().load_weights(model, trained.path)
    return model, _arguments(model, trained.spec)


def open_batch(arguments: Mapping[str, Any], dim: Callable[[], Any]) -> dict[str, Any]:
    """Return, for torch.export, what keeps the first axis of every argument open. dim: makes the open axis of one."""
    return {
        name: open_batch(value, dim) if isinstance(value, dict) else {0: dim()} for name, value in arguments.items()
    }


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
    return torch.from_numpy(np.zeros((2, *tensor.sizes[1:]), DTYPES[tensor.dtype]))


def names(called: Any, spec: Spec) -> tuple[list[str], list[str]]:
    """Return what the model calls the inputs and outputs of an exported graph, whose order is the program's own.

    called: the forms of a call's arguments and results. A tuple or list of results has no names of its own: it is in
    the spec's order, as TorchServe's handler takes it, too.
    """
    _, arguments = called.in_spec.unflatten(range(called.in_spec.num_leaves))
    inputs = [pair for name, place in arguments.items() for pair in _places(place, [name])]
    outputs = _places(called.out_spec.unflatten(range(called.out_spec.num_leaves)), [t.name for t in spec.outputs])
    taken, given = ([name for name, _ in sorted(pairs, key=itemgetter(1))] for pairs in (inputs, outputs))
    return taken, given


def _places(form: Any, otherwise: Sequence[str]) -> list[tuple[str, int]]:
    """Return the name and place of each tensor of a form that holds places; `otherwise` are names where it has none."""
    if hasattr(form, "_asdict"):
        form = form._asdict()  # a named tuple's public way
    if isinstance(form, Mapping):
        return list(form.items())
    places = list(form) if isinstance(form, list | tuple) else [form]
    if len(places) != len(otherwise):
        count = f"{len(places)} output{'s' * (len(places) != 1)}"
        raise ExportError(f"the model has {count}, its spec says {', '.join(otherwise)}")
    return list(zip(otherwise, places, strict=True))
