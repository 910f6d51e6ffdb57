"""Read back what training saved with Keras, on whichever backend Keras has in this process."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from export.by_name import match
from export.parity import DTYPES
from export.trained import Trained
from models import frameworks

keras = frameworks.keras()

KERAS_DTYPES = MappingProxyType({name: "string" if name == "BYTES" else dtype.name for name, dtype in DTYPES.items()})


def read(trained: Trained) -> Any:
    """Return the trained model; no code in the file is run."""
    return keras.saving.load_model(trained.path, compile=False, safe_mode=True)


def read_by_name(trained: Trained) -> Any:
    """Return the trained model with the spec's inputs, as a list, and a dict of the spec's outputs.

    Whatever form the model itself has (dicts, lists, single tensors), its tensors are matched by name: the keys of a
    dict, in a list the names of the input layers and of the layers that give the outputs. Raises ExportError.
    """
    model, spec = read(trained), trained.spec
    inputs = {t.name: keras.Input(t.shape[1:], dtype=KERAS_DTYPES[t.dtype], name=t.name) for t in spec.inputs}
    outputs = match("outputs", _named(model, model(_arranged(model, trained, inputs))), spec.outputs)
    return keras.Model(list(inputs.values()), dict(outputs), name=f"{trained.name}_by_name")


def _arranged(model: Any, trained: Trained, tensors: Mapping[str, Any]) -> Any:
    """Return tensors by name in the form that the model takes."""
    form = model.input if _functional(model) else model.inputs
    names = list(form) if isinstance(form, dict) else [tensor.name for tensor in model.inputs]
    own = match("inputs", [(name, name) for name in names], trained.spec.inputs)
    by_own_name = {own[name]: tensor for name, tensor in tensors.items()}
    if isinstance(form, dict):
        return by_own_name
    return [by_own_name[name] for name in names] if len(names) > 1 else by_own_name[names[0]]


def _named(model: Any, results: Any) -> list[tuple[str, Any]]:
    """Return what the model gives, with names."""
    if isinstance(results, dict):
        return list(results.items())
    results = list(results) if isinstance(results, list | tuple) else [results]
    names = model.output_names if _functional(model) else ["nameless"] * len(results)
    return list(zip(names, results, strict=True))


def _functional(model: Any) -> bool:
    """Return whether the model knows the form and names of its tensors; a Sequential takes and gives one tensor."""
    return hasattr(model, "output_names")
