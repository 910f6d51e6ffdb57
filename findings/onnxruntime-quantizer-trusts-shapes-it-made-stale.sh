#!/usr/bin/env bash
# ONNX Runtime's quantize_dynamic fails on a valid model that says the shapes of its weights.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6 (pinned below); Python 3.11, Linux x86_64.
# Guess: value_info repeats for a weight what the weight itself says, the checker accepts it, and PyTorch's exporter writes
# it for every weight: tools read past it.
# Behaviour: the tool first turns Gemm into MatMul and transposes the weight, leaves the old shape in value_info, and its
# own shape inference then finds that the two disagree. The same model without value_info is quantized; so are models
# whose weights are square, which hides it.
# Seen on 2026-11-29:
#   with value_info of the weight: InferenceError: [ShapeInferenceError] Inferred shape and existing shape differ in dimension 0: (8) vs (3)
#   without it: quantized
# Exit code: 0 while the first raises and the second does not, 1 otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cat > "$folder/quantize.py" <<'EOF'
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

said, folder = sys.argv[1] == "with", Path(sys.argv[2])
weights = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(3, 8), "w")  # as torch.nn.Linear(8, 3) has it
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
    "linear",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    [weights],
    value_info=[helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 8])] if said else [],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, folder / "model.onnx")
try:
    quantize_dynamic(folder / "model.onnx", folder / "int8.onnx")
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("quantized")
EOF
changed=0
if "$folder/venv/bin/python" "$folder/quantize.py" with "$folder" >"$folder/seen" 2>&1; then changed=1; fi
echo "with value_info of the weight: $(tail -1 "$folder/seen")"
"$folder/venv/bin/python" "$folder/quantize.py" without "$folder" >"$folder/seen" 2>&1 || changed=1
echo "without it: $(tail -1 "$folder/seen")"
exit $changed
