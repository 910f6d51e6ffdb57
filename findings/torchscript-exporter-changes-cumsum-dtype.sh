#!/usr/bin/env bash
# ONNX written of a TorchScript module declares another dtype than the module answers with.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxruntime 1.31.1 (pinned below); Python 3.11, Linux x86_64, CPU.
# Guess: torch.onnx.export keeps the dtypes of a model's outputs: a difference would be an error of export.
# Behaviour: torch.cumsum of int32 gives int64. The exporter of TorchScript (dynamo=False, the only one that keeps a
# script's conditions and loops) writes CumSum on int32 without a cast: the file is valid, and answers int32.
# Seen on 2026-11-28:
#   PyTorch answers torch.int64
#   the ONNX file answers int32
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1 onnxscript==0.7.2
cat >"$folder/check.py" <<'PYTHON'
import io

import onnxruntime
import torch


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 1)


script, x = torch.jit.script(Sum()), torch.ones(2, 3, dtype=torch.int32)
print("PyTorch answers", script(x).dtype)
file = io.BytesIO()
torch.onnx.export(script, (x,), file, dynamo=False, input_names=["x"])
session = onnxruntime.InferenceSession(file.getvalue())
print("the ONNX file answers", session.run(None, {"x": x.numpy()})[0].dtype)
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/check.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
PyTorch answers torch.int64
the ONNX file answers int32
SEEN
