"""SavedModel -> TFLite by TensorFlow's converter, from the graph as a session holds it, its variables frozen into it.

The converter begins with tf.saved_model.load, which refuses SavedModels that the server serves; not the plain one that
is written here of the frozen graph.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from export import tflite_file
from export.importing.errors import Refused
from export.importing.prove import first_line
from export.importing.saved_model_source import SIGNATURE, TAGS, Session, frozen, tensorflow


def convert(source: Path, folder: Path) -> Mapping[str, str]:
    """Write FOLDER/model.tflite with the names of the SavedModel's signature; return facts. Raises ExportError."""
    session = Session(source)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        plain = Path(temporary, "saved_model")
        try:
            _write_frozen(session, plain)
        except Exception as error:
            raise Refused(f"its graph cannot be frozen: {first_line(error)}") from error
        return tflite_file.convert(plain, folder)


def _write_frozen(session: Session, folder: Path) -> None:
    """Write a SavedModel of the signature alone, without variables."""
    v1 = tensorflow.compat.v1
    with tensorflow.Graph().as_default() as graph, v1.Session(graph=graph) as plain:
        tensorflow.graph_util.import_graph_def(frozen(session), name="")
        inputs, outputs = (
            {
                name: v1.saved_model.build_tensor_info(graph.get_tensor_by_name(info.name))
                for name, info in infos.items()
            }
            for infos in (session.inputs, session.outputs)
        )
        signature = v1.saved_model.build_signature_def(inputs, outputs, v1.saved_model.PREDICT_METHOD_NAME)
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(plain, TAGS, {SIGNATURE: signature})
        builder.save()
