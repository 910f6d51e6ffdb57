"""What all that write TFLite share: TensorFlow's converter, with LiteRT's own operators alone, and LiteRT to try it."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.errors import ExportError
from export.parity import Predict
from models.frameworks import tensorflow
from models.registry import Arrays
from servepath.artifacts.tflite import FILE, SIGNATURE, VERSION, TfliteModel

# How the converter's error names what LiteRT has no operator for.
MISSING = re.compile(r"(?:TF Select|Custom) ops: (.+)")


def convert(saved_model: Path, folder: Path) -> Mapping[str, str]:
    """Write FOLDER/model.tflite from a SavedModel's signature, nothing quantized; return facts. Raises ExportError."""
    tf = tensorflow()
    tf.get_logger().setLevel("ERROR")
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    except Exception as error:  # ConverterError is private, and Python's loader of SavedModels raises kinds of its own
        missing = MISSING.search(str(error))
        said = (
            f"LiteRT has no operator, or none of this dtype, for {missing[1]}"
            if missing
            else next(iter(str(error).splitlines()), "")[:300]
        )
        raise ExportError(f"TensorFlow cannot write it as TFLite: {said}") from error
    (folder / FILE).write_bytes(content)
    return {"litert": VERSION}


def load(folder: Path) -> Predict:
    """Return a function that runs the file in LiteRT."""
    return predictor(folder / FILE)


def predictor(file: Path) -> Predict:
    """Return a function that runs a file in LiteRT: inputs and outputs by the file's names. Raises TfliteError."""
    models = [TfliteModel(file)]

    def predict(inputs: Arrays) -> Arrays:
        if not models:  # the last call failed, and took its interpreter with it
            models.append(TfliteModel(file))
        model = models.pop()
        found = {name: np.asarray(values) for name, values in model.run(**inputs).items()}
        models.append(model)
        return found

    return predict
