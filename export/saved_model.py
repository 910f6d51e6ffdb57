"""Keras -> SavedModel for TensorFlow Serving, with the spec's tensor names in its serving_default signature."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.keras_model import read, tensorflow
from export.parity import DTYPES, Predict
from export.trained import Trained
from models.reference import Arrays
from store.manifest import hash_files as contents

__all__ = ["contents", "load", "write"]

SIGNATURE = "serving_default"


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write saved_model.pb, variables/ and fingerprint.pb."""
    module = tensorflow.Module()
    module.model = read(trained)
    specs = {t.name: tensorflow.TensorSpec((None, *t.shape[1:]), DTYPES[t.dtype], t.name) for t in trained.spec.inputs}

    def serve(**inputs: Any) -> Any:
        results = module.model(inputs if len(inputs) > 1 else next(iter(inputs.values())))
        results = results if isinstance(results, dict) else [results]
        return dict(zip((tensor.name for tensor in trained.spec.outputs), results, strict=True))

    signature = tensorflow.function(serve).get_concrete_function(**specs)
    tensorflow.saved_model.save(module, str(folder), signatures={SIGNATURE: signature})
    return {}


def load(folder: Path) -> Predict:
    """Give a function that calls the signature of the SavedModel."""
    loaded = tensorflow.saved_model.load(str(folder))

    def predict(inputs: Arrays) -> Arrays:
        results = loaded.signatures[SIGNATURE](**{name: tensorflow.constant(rows) for name, rows in inputs.items()})
        return {name: tensor.numpy() for name, tensor in results.items()}

    return predict
