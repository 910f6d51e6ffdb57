"""The warm-up record of a SavedModel: a call that the server makes before it lets a version answer others.

assets.extra/tf_serving_warmup_requests is a TFRecord file of at most 1,000 serialized tensorflow.serving.PredictionLog
messages. A record that fails makes the version's load fail, and the version before it serves on
(tensorflow_serving/g3doc/saved_model_warmup.md). So a version that cannot answer never becomes available.
"""

from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from export.errors import ParityError
from export.keras_model import tensorflow
from export.parity import Predict, close, seeded_inputs
from export.trained import Trained
from models.registry import Arrays
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb

FILE = Path("assets.extra", "tf_serving_warmup_requests")


def write(trained: Trained, folder: Path) -> None:
    """Write one record: Predict with the first row of the seeded inputs."""
    write_record(_first_row(trained), folder, trained.name)


def write_record(inputs: Arrays, folder: Path, model: str) -> None:
    """Write one record: Predict with these inputs."""
    log = pb.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model
    for name, rows in inputs.items():
        request.inputs[name].ParseFromString(tensorflow.make_tensor_proto(rows).SerializeToString())
    (folder / FILE).parent.mkdir(exist_ok=True)
    with tensorflow.io.TFRecordWriter(str(folder / FILE)) as writer:
        writer.write(log.SerializeToString(deterministic=True))


def check(trained: Trained, folder: Path, predict: Predict) -> None:
    """Run the record's request and compare the reply with the reference. Raises ParityError."""
    (record,) = tensorflow.data.TFRecordDataset(str(folder / FILE)).as_numpy_iterator()
    request = pb.PredictionLog.FromString(record).predict_log.request
    asked = {name: _array(tensor) for name, tensor in request.inputs.items()}
    expected = trained.reference(_first_row(trained))
    tolerances = {tensor.name: trained.spec.tolerance_of(tensor) for tensor in trained.spec.outputs}
    for name, answer in predict(asked).items():
        if not close(answer, expected[name], tolerances[name]):
            raise ParityError(f"{trained.name}: the warm-up record's reply differs from the reference in {name!r}")


def _first_row(trained: Trained) -> Arrays:
    return {name: rows[:1] for name, rows in seeded_inputs(trained.spec).items()}


def _array(tensor: pb.TensorProto) -> NDArray[Any]:
    parsed = tensorflow.io.parse_tensor(tensor.SerializeToString(), tensorflow.as_dtype(tensor.dtype))
    return cast("NDArray[Any]", parsed.numpy())
