#!/usr/bin/env bash
# Asked to shrink its arena, ONNX Runtime gives a large request's memory back, unless that request was the first.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, psutil 7.2.2 (pinned below); Linux x86_64, CPU.
# Guess: a run with memory.enable_memory_arena_shrinkage leaves the arena as large as what is in use, whatever ran before.
# Behaviour: the region that the arena took first is never let go. A session whose first run is small gives the 250 MB of
# a later large run back with the next run that asks for it; one whose first run is that large run keeps them for good,
# however often it is asked. The session's configuration is the same, and so are the runs but for their order.
# What to do: let a session's first run be a small one.
# Seen on 2026-11-29:
#   small, large, small with shrinkage: given back
#   large, small with shrinkage: kept
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6 psutil==7.2.2
cat >"$folder/check.py" <<'PYTHON'
import numpy as np
import onnxruntime
import psutil
from onnx import TensorProto, helper, numpy_helper

WIDTH, ROWS = 2**15, 2000  # 2000 rows between the two operations take 262 MB
weights = numpy_helper.from_array(np.ones((1, WIDTH), np.float32), "w")
nodes = [helper.make_node("MatMul", ["x", "w"], ["wide"]), helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=1)]
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in "xy")
graph = helper.make_graph(nodes, "g", [x], [y], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()
shrink = onnxruntime.RunOptions()
shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def after(first_rows):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    before = psutil.Process().memory_info().rss
    for rows in first_rows:
        session.run(None, {"x": np.zeros((rows, 1), np.float32)})
    for _ in range(3):
        session.run(None, {"x": np.zeros((1, 1), np.float32)}, shrink)
    held = psutil.Process().memory_info().rss - before
    return "kept" if held > ROWS * WIDTH * 4 / 2 else "given back"


print("small, large, small with shrinkage:", after([1, ROWS]))
print("large, small with shrinkage:", after([ROWS]))
PYTHON
"$folder/venv/bin/python" "$folder/check.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
small, large, small with shrinkage: given back
large, small with shrinkage: kept
SEEN
