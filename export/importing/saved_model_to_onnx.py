"""SavedModel -> ONNX by tf2onnx, from the graph as a session holds it, its variables frozen into it.

tf2onnx's own way begins with tf.saved_model.load, which refuses SavedModels that the server serves.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.importing.errors import Refused
from export.importing.onnx_source import declare
from export.importing.prove import first_line
from export.importing.saved_model_source import Session, frozen, tensorflow
from export.onnx_file import FILE, Names, save
from servepath.artifacts.spec import Spec

OPSET = 17


def convert(source: Path, folder: Path, spec: Spec) -> Mapping[str, str]:
    """Write FOLDER/model.onnx under the signature's names; return facts. Raises Refused."""
    session = Session(source)
    tensors = {name: info.name for name, info in (session.inputs | session.outputs).items()}
    try:
        model, called = _converted(
            session, [tensors[t.name] for t in spec.inputs], [tensors[t.name] for t in spec.outputs]
        )
    except Exception as error:
        raise Refused(f"tf2onnx cannot write it as ONNX: {first_line(error)}") from error
    public = dict(zip(called, [tensor.name for tensor in (*spec.inputs, *spec.outputs)], strict=True))
    names = Names(*([public[value.name] for value in values] for values in (model.graph.input, model.graph.output)))
    facts = save(model, spec, names, folder)
    written = onnx.load(folder / FILE)
    declare(written.graph, spec)  # tf2onnx declares axes otherwise than they were found, and the server compares
    (folder / FILE).write_bytes(written.SerializeToString(deterministic=True))
    return facts


def _converted(session: Session, inputs: list[str], outputs: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model, and the names in it of these inputs and outputs, in this order."""
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 - nothing public does it

    constant = frozen(session)
    # As a function, since only that way of freezing puts the bodies of called functions in their place.
    wrapped = tensorflow.compat.v1.wrap_function(lambda: tensorflow.graph_util.import_graph_def(constant, name=""), [])
    graph = wrapped.graph
    pruned = wrapped.prune(*([graph.get_tensor_by_name(name) for name in names] for names in (inputs, outputs)))
    flat = convert_to_constants.convert_variables_to_constants_v2(pruned)
    called = [tensor.name for tensor in flat.inputs], [tensor.name for tensor in flat.outputs]
    vars(np).setdefault("object", object)  # tf2onnx 1.17 asks for what numpy 2 no longer has
    import tf2onnx  # noqa: PLC0415 - after that

    tensorflow.get_logger().setLevel("ERROR")
    model, _ = tf2onnx.convert.from_graph_def(
        flat.graph.as_graph_def(), input_names=called[0], output_names=called[1], opset=OPSET
    )
    return model, [*called[0], *called[1]]
