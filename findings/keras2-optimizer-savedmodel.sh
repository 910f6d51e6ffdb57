#!/usr/bin/env bash
# A SavedModel that Keras 2 saved after training: a session answers from it, tf.saved_model.load raises.
#
# Versions: tensorflow 2.21.0 (with keras 3.15.1), the SavedModel inside basic-pitch 0.4.0, which its authors publish for
# serving (pinned below, basic-pitch without its dependencies); Linux x86_64, CPU.
# Guess: what TensorFlow Serving can serve, Python's loader loads, since the SavedModel format promises to stay readable.
# Behaviour: the object graph holds the optimizer's slot variables. Keras 3 registers no optimizer under the name that
# Keras 2 wrote, so Python's loader makes a plain object of it and then calls its method add_slot: AttributeError. The
# session loader, tensorflow_model_server's, never looks at the object graph. Tools that begin with
# tf.saved_model.load, such as tf2onnx's --saved-model, end with the same AttributeError.
# Seen on 2026-11-28:
#   session: ['contour', 'note', 'onset']
#   python loader: AttributeError: '_UserObject' object has no attribute 'add_slot'
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps basic-pitch==0.4.0
cat >"$folder/check.py" <<'PYTHON'
import importlib.util
from pathlib import Path

import numpy as np
import tensorflow as tf

package = Path(importlib.util.find_spec("basic_pitch").submodule_search_locations[0])
path = str(package / "saved_models" / "icassp_2022" / "nmp")
graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
    (feed,) = signature.inputs.values()
    fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
    answers = session.run(fetches, {feed.name: np.zeros((1, 43844, 1), np.float32)})
    print("session:", sorted(name for name, values in answers.items() if np.isfinite(values).all()))
try:
    tf.saved_model.load(path)
    print("python loader: loads it")
except AttributeError as error:
    print(f"python loader: AttributeError: {error}")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/check.py" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
session: ['contour', 'note', 'onset']
python loader: AttributeError: '_UserObject' object has no attribute 'add_slot'
SEEN
