"""Keras -> SavedModel for TensorFlow Serving, with the spec's tensor names in its serving_default signature.

Python's loader of SavedModels rebuilds the Python objects, the server restores a graph in a session; a SavedModel that
the first one runs need not have a single variable that the second one finds. So both load what was written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import warmup
from export.errors import ExportError
from export.keras_model import read, tensorflow
from export.parity import DTYPES, Predict
from export.trained import Trained
from models.reference import Arrays
from store.manifest import hash_files as contents
from store.spec import TensorSpec

__all__ = ["contents", "load", "load_in_python", "write"]

SIGNATURE = "serving_default"
TAGS = ["serve"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write saved_model.pb, variables/, fingerprint.pb and a warm-up record whose reply has been checked."""
    model, spec = read(trained), trained.spec

    def serve(**inputs: Any) -> Any:
        return _by_name(spec.outputs, model(_arranged(model, inputs)))

    endpoint = tensorflow.function(serve)
    endpoint.get_concrete_function(**{tensor.name: _placeholder(tensor) for tensor in spec.inputs})
    archive = tensorflow.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SIGNATURE, endpoint)
    archive.write_out(str(folder), verbose=False)
    warmup.write(trained, folder)
    warmup.check(trained, folder, load(folder))
    return {}


def load(folder: Path) -> Predict:
    """Return a function that runs the signature in a session, which is how tensorflow_model_server loads it."""
    graph = tensorflow.Graph()
    session = tensorflow.compat.v1.Session(graph=graph)
    with graph.as_default():
        signature = tensorflow.compat.v1.saved_model.load(session, TAGS, str(folder)).signature_def[SIGNATURE]
    fetches = {name: tensor.name for name, tensor in signature.outputs.items()}

    def predict(inputs: Arrays) -> Arrays:
        results = session.run(fetches, {signature.inputs[name].name: rows for name, rows in inputs.items()})
        return {name: np.asarray(rows) for name, rows in results.items()}

    return predict


def load_in_python(folder: Path) -> Predict:
    """Return a function that runs the signature as Python's loader restores it."""
    loaded = tensorflow.saved_model.load(str(folder))

    def predict(inputs: Arrays) -> Arrays:
        results = loaded.signatures[SIGNATURE](**{name: tensorflow.constant(rows) for name, rows in inputs.items()})
        return {name: tensor.numpy() for name, tensor in results.items()}

    return predict


def _placeholder(tensor: TensorSpec) -> Any:
    dtype = tensorflow.string if tensor.dtype == "BYTES" else tensorflow.as_dtype(DTYPES[tensor.dtype])
    return tensorflow.TensorSpec((None, *tensor.shape[1:]), dtype, tensor.name)


def _arranged(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Return the inputs in the structure that the model takes, matched by name. Raises ExportError."""
    if len(model.inputs) == 1 and len(inputs) == 1:
        (only,) = inputs.values()
        return {model.inputs[0].name: only} if isinstance(_structure(model), dict) else only
    structure = _structure(model)
    names = list(structure) if isinstance(structure, dict) else [tensor.name for tensor in model.inputs]
    if set(names) != set(inputs):
        raise ExportError(f"the model's inputs are {sorted(names)}, its spec's {sorted(inputs)}: make them the same")
    return dict(inputs) if isinstance(structure, dict) else [inputs[name] for name in names]


def _structure(model: Any) -> Any:
    """Return the model's input tensors as it takes them: one, a list or a dict. A Sequential takes one."""
    return model.inputs[0] if isinstance(model, tensorflow.keras.Sequential) else model.input


def _by_name(outputs: Sequence[TensorSpec], results: Any) -> Mapping[str, Any]:
    """Return results by the spec's names: a dict by its keys, a list in the spec's order. Raises ExportError."""
    names = [tensor.name for tensor in outputs]
    if not isinstance(results, dict):
        results = dict(enumerate(results if isinstance(results, list | tuple) else [results]))
        if len(results) == len(names):
            return dict(zip(names, results.values(), strict=True))
    if set(results) != set(names):
        raise ExportError(f"the model's outputs are {list(results)}, its spec's {names}: make them the same")
    return dict(results)
