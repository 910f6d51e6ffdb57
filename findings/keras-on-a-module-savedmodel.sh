#!/usr/bin/env bash
# A Keras model as an attribute of a tf.Module, saved with a signature: Python answers from it, no server can.
#
# Versions: tensorflow 2.21.0, keras 3.15.1 (pinned below); Linux x86_64, CPU.
# Guess: what tf.saved_model.load answers from, TensorFlow Serving answers from.
# Behaviour: each of the model's variables is saved twice (as itself and as "Variable", ...). The restore op of the graph
# fills one set, the signature reads the other. tf.saved_model.load rebuilds the Python objects and joins both, so it
# answers; a session, which is how tensorflow_model_server and saved_model_cli run a SavedModel, ends with
# FAILED_PRECONDITION. Nothing is said at saving. keras.export.ExportArchive (model.export) saves what both can run.
# Seen on 2026-11-28:
#   python loader: (1, 1)
#   session: FailedPreconditionError: Could not find variable
#   archive in a session: (1, 1)
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1
cat >"$folder/check.py" <<'PYTHON'
import sys
from pathlib import Path

import keras
import tensorflow as tf

folder = Path(sys.argv[1])
model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])


def session(path: Path) -> str:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as running:
        signature = tf.compat.v1.saved_model.load(running, ["serve"], str(path)).signature_def["serving_default"]
        (feed,), (fetch,) = signature.inputs.values(), signature.outputs.values()
        try:
            return str(running.run(fetch.name, {feed.name: [[1.0, 2.0]]}).shape)
        except tf.errors.FailedPreconditionError as error:
            missing = "Could not find variable"
            return f"FailedPreconditionError: {missing if missing in error.message else error.message}"


module = tf.Module()
module.model = model
serve = tf.function(lambda x: {"y": module.model(x)})
signature = serve.get_concrete_function(tf.TensorSpec((None, 2), tf.float32, "x"))
tf.saved_model.save(module, str(folder / "module"), signatures={"serving_default": signature})
loaded = tf.saved_model.load(str(folder / "module")).signatures["serving_default"](x=tf.constant([[1.0, 2.0]]))
model.export(str(folder / "archive"), verbose=False)
print("python loader:", loaded["y"].shape)
print("session:", session(folder / "module"))
print("archive in a session:", session(folder / "archive"))
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/check.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
python loader: (1, 1)
session: FailedPreconditionError: Could not find variable
archive in a session: (1, 1)
SEEN
