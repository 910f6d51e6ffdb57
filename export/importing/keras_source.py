"""A .keras file -> a SavedModel whose signature has the model's own names. Code in it runs only where it is trusted."""

import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from export.importing.errors import Refused
from export.importing.prove import first_line
from export.keras_model import tensorflow

import keras  # isort: skip - after TensorFlow

SIGNATURE = "serving_default"
MAX_BYTES, MAX_RATIO = 2**31, 200


def export(path: Path, folder: Path, *, trust_code: bool = False) -> list[tuple[str, int]]:
    """Write the SavedModel into FOLDER; return dtype and number of elements of the model's weights.

    Code in the file runs where it is trusted. Raises Refused.
    """
    check_archive(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not trust_code)
    except Exception as error:
        raise Refused(
            f"Keras {keras.__version__} does not load it{'' if trust_code else ' without running its code'}: "
            f"{first_line(error)}"
        ) from error
    # A Sequential takes and gives one tensor, and does not know the form of it.
    form = model.input if hasattr(model, "output_names") else model.inputs
    inputs = form if isinstance(form, dict) else {tensor.name: tensor for tensor in model.inputs}
    specs = {name: tensorflow.TensorSpec(each.shape, each.dtype, name) for name, each in inputs.items()}

    def serve(**rows: Any) -> Any:
        asked = dict(rows) if isinstance(form, dict) else [rows[tensor.name] for tensor in model.inputs]
        return _named(model, model(asked if isinstance(asked, dict) or len(asked) > 1 else asked[0]))

    endpoint = tensorflow.function(serve)
    endpoint.get_concrete_function(**specs)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SIGNATURE, endpoint)
    archive.write_out(str(folder), verbose=False)
    return list(_weights(model))


def check_archive(path: Path) -> None:
    """Raise Refused for what is no .keras file, or one that would unpack to much more than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile):
        raise Refused(f"{path.name} is not a .keras file, or is cut off") from None
    if "config.json" not in {member.filename for member in members}:
        raise Refused(f"{path.name} is not a .keras file: it has no config.json")
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES or size > MAX_RATIO * max(path.stat().st_size, 2**20):
        raise Refused(f"{path.name} would unpack to {size:,} bytes, which no model of its size does")


def _weights(layer: Any) -> Iterator[tuple[str, int]]:
    """Yield of each weight the number of elements, and the dtype in which its layer computes with it.

    A weight that has fractions is cast to what its layer computes in, as a mixed policy says; others are what they are.
    """
    inner = getattr(layer, "layers", ())
    of_inner = {id(weight) for each in inner for weight in each.weights}
    for each in inner:
        yield from _weights(each)
    for weight in layer.weights:
        if id(weight) not in of_inner:
            fractions = keras.backend.is_float_dtype(weight.dtype)
            yield layer.compute_dtype if fractions else weight.dtype, prod(weight.shape)


def _named(model: Any, results: Any) -> dict[str, Any]:
    """Return the outputs by the model's own names."""
    if isinstance(results, dict):
        return dict(results)
    results = list(results) if isinstance(results, list | tuple) else [results]
    names = getattr(model, "output_names", None) or [f"output_{number}" for number in range(len(results))]
    return dict(zip(names, results, strict=True))
