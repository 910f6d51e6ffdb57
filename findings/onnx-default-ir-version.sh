#!/usr/bin/env bash
# A model made by onnx.helper with its defaults does not load in the ONNX Runtime of the same day.
#
# Versions: onnx 1.23.2, onnxruntime 1.31.1 (pinned below): the newest of both in November 2026; Linux x86_64, CPU.
# Guess: helper.make_model without arguments makes what the current ONNX Runtime reads, or warns.
# Behaviour: make_model stamps the newest IR version that the onnx package knows (14) and the newest opset, whatever the
# model needs. ONNX Runtime reads IR versions up to 13 and refuses the file; with ir_version and opset given, the same
# graph loads and answers. onnx.checker.check_model finds nothing in either.
# Seen on 2026-11-28:
#   default: IR 14, checker says nothing, ONNX Runtime: Unsupported model IR version: 14, max supported IR version: 13
#   ir_version=13, opset 17: answers [3.0]
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1
cat >"$folder/check.py" <<'PYTHON'
import re

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper


def made(**given):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, **given)
    onnx.checker.check_model(model, full_check=True)
    return model


def answer(model):
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        return re.search(r"Unsupported model IR version.*", str(error)).group()
    return session.run(None, {"x": np.array([1.5], np.float32)})[0].tolist()


plain = made()
print(f"default: IR {plain.ir_version}, checker says nothing, ONNX Runtime: {answer(plain)}")
print(f"ir_version=13, opset 17: answers {answer(made(ir_version=13, opset_imports=[helper.make_opsetid('', 17)]))}")
PYTHON
"$folder/venv/bin/python" "$folder/check.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
default: IR 14, checker says nothing, ONNX Runtime: Unsupported model IR version: 14, max supported IR version: 13
ir_version=13, opset 17: answers [3.0]
SEEN
