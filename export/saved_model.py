"""Keras -> SavedModel for TensorFlow Serving, with the spec's tensor names in its serving_default signature.

Python's loader of SavedModels rebuilds the Python objects, the server restores a graph in a session; a SavedModel that
the first one runs need not have a single variable that the second one finds. So both load what was written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export import warmup
from export.keras_model import KERAS_DTYPES, read_by_name, tensorflow
from export.parity import Predict
from export.trained import Trained
from models.registry import Arrays
from servepath.artifacts.manifest import hash_files as contents

__all__ = ["contents", "load", "load_in_python", "write", "write_signature"]

SIGNATURE = "serving_default"
TAGS = ["serve"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write saved_model.pb, variables/, fingerprint.pb and a warm-up record whose reply has been checked."""
    write_signature(trained, folder)
    warmup.write(trained, folder)
    warmup.check(trained, folder, load(folder))
    return {}


def write_signature(trained: Trained, folder: Path) -> None:
    """Write the SavedModel without a warm-up record."""
    model, inputs = read_by_name(trained), trained.spec.inputs

    def serve(**rows: Any) -> Any:
        return model([rows[tensor.name] for tensor in inputs])

    endpoint = tensorflow.function(serve)
    endpoint.get_concrete_function(
        **{t.name: tensorflow.TensorSpec((None, *t.shape[1:]), KERAS_DTYPES[t.dtype], t.name) for t in inputs}
    )
    archive = tensorflow.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SIGNATURE, endpoint)
    archive.write_out(str(folder), verbose=False)


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
