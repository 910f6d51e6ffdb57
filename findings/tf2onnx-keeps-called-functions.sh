#!/usr/bin/env bash
# tf2onnx returns a model with an operator that ONNX does not have, without an exception.
#
# Versions: tensorflow 2.21.0, tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.31.1 (pinned below); Linux x86_64, CPU.
# Guess: from_graph_def raises for a graph that it cannot convert, or puts a called function's body in its place.
# Behaviour: a SavedModel's signature is a graph that calls a function. Loaded in a session and given to from_graph_def,
# the call stays: the result has one node, PartitionedCall, in the ONNX domain. Only a log line says so. The model fails
# in onnx.checker and in ONNX Runtime. Wrapped as a function first (tf.compat.v1.wrap_function, then
# convert_variables_to_constants_v2, which inlines), the same graph becomes an Add.
# Seen on 2026-11-28:
#   as it is: ['PartitionedCall'], checker: ValidationError, ONNX Runtime: InvalidGraph
#   wrapped: ['Add'], answers [3.0]
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorflow==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 \
  onnxruntime==1.31.1
cat >"$folder/check.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

vars(np).setdefault("object", object)  # tf2onnx 1.17 asks for what numpy 2 no longer has
import tf2onnx

path = sys.argv[1]
if sys.argv[2:] == ["save"]:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x + x}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
    sys.exit()
graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
    x, y = signature.inputs["x"].name, signature.outputs["y"].name
    plain = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(add_shapes=True), [y.partition(":")[0]])


def convert(graph_def, x, y):
    return tf2onnx.convert.from_graph_def(graph_def, input_names=[x], output_names=[y], opset=17)[0]


def nodes(model):
    return [node.op_type for node in model.graph.node if node.op_type != "Identity"]


def error_of(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "accepted"


def load(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


kept = convert(plain, x, y)
checked, loaded = error_of(lambda: onnx.checker.check_model(kept)), error_of(lambda: load(kept))
print(f"as it is: {nodes(kept)}, checker: {checked}, ONNX Runtime: {loaded}")
wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(plain, name=""), [])
pruned = wrapped.prune([wrapped.graph.get_tensor_by_name(x)], [wrapped.graph.get_tensor_by_name(y)])
flat = convert_variables_to_constants_v2(pruned)
inlined = convert(flat.graph.as_graph_def(), flat.inputs[0].name, flat.outputs[0].name)
(answer,) = load(inlined).run(None, {flat.inputs[0].name: np.array([1.5], np.float32)})
print(f"wrapped: {nodes(inlined)}, answers {answer.tolist()}")
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
"$folder/venv/bin/python" "$folder/check.py" "$folder/saved" save 2>/dev/null
"$folder/venv/bin/python" "$folder/check.py" "$folder/saved" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
as it is: ['PartitionedCall'], checker: ValidationError, ONNX Runtime: InvalidGraph
wrapped: ['Add'], answers [3.0]
SEEN
