"""SavedModel -> ONNX by tf2onnx, from the graph as a session holds it, its variables frozen into it.

tf2onnx's own way begins with tf.saved_model.load, which refuses SavedModels that the server serves.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.importing.errors import Refused
from export.importing.prove import first_line
from export.importing.saved_model_source import Session, tensorflow
from export.onnx_file import Names, save
from servepath.artifacts.spec import Spec

OPSET = 17


def convert(source: Path, folder: Path, spec: Spec) -> Mapping[str, str]:
    """Write FOLDER/model.onnx under the signature's names; return facts. Raises Refused."""
    session = Session(source)
    inputs = {name: info.name for name, info in session.inputs.items()}
    outputs = {name: info.name for name, info in session.outputs.items()}
    try:
        model = _converted(session, list(inputs.values()), list(outputs.values()))
    except Exception as error:
        raise Refused(f"tf2onnx cannot write it as ONNX: {first_line(error)}") from error
    called = {tensor: name for name, tensor in (inputs | outputs).items()}
    names = Names(*([called[value.name] for value in values] for values in (model.graph.input, model.graph.output)))
    return save(model, spec, names, folder)


def _converted(session: Session, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 - nothing public does it

    nodes = [output.partition(":")[0] for output in outputs]
    frozen = convert_to_constants.convert_variables_to_constants_from_session_graph(
        session.session, session.graph.as_graph_def(add_shapes=True), nodes
    )
    vars(np).setdefault("object", object)  # tf2onnx 1.17 asks for what numpy 2 no longer has
    import tf2onnx  # noqa: PLC0415 - after that

    tensorflow.get_logger().setLevel("ERROR")
    model, _ = tf2onnx.convert.from_graph_def(frozen, input_names=inputs, output_names=outputs, opset=OPSET)
    return model
