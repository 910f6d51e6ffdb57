#!/usr/bin/env bash
# PyTorch's threads spin while they wait: beside other busy processes a model has a third of the rate that it could have.
#
# Versions: torch 2.13.0 from its wheel for the CPU, which brings GNU's OpenMP (pinned below); Python 3.11, Linux x86_64.
# Guess: beside two other busy processes on two cores, a model on two threads has about half the rate that it has alone.
# Behaviour: threads of one operation wait for each other by spinning. One whose partner has been put to sleep for another
# process spins its own share away, at each of the model's operations. With OMP_WAIT_POLICY=PASSIVE they sleep instead.
# Seen on 2026-11-29, cores 0 and 1, two other busy processes on them (calls a second of six small layers, two runs):
#   spinning: 8.0 and 14.0
#   sleeping: 23.5 and 54.7
# Exit code: 0 while sleeping threads have at least twice the rate of spinning ones, 1 otherwise.
set -euo pipefail
folder=$(mktemp -d)
busy=()
trap 'kill "${busy[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/rate.py" <<'PYTHON'
import time

import torch

torch.set_num_threads(2)
layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).eval()
rows, calls = torch.randn(1, 48, 256), 0
with torch.inference_mode():
    model(rows)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        model(rows)
        calls += 1
print(f"{calls / 6:.1f}")
PYTHON
for _ in 1 2; do taskset -c 0,1 "$folder/venv/bin/python" -c "while True: pass" & busy+=($!); done
spinning=$(env -u OMP_WAIT_POLICY taskset -c 0,1 "$folder/venv/bin/python" -W ignore "$folder/rate.py")
sleeping=$(OMP_WAIT_POLICY=PASSIVE taskset -c 0,1 "$folder/venv/bin/python" -W ignore "$folder/rate.py")
echo "spinning: $spinning calls/s, sleeping: $sleeping calls/s"
awk -v spin="$spinning" -v sleep="$sleeping" 'BEGIN { exit !(sleep >= 2 * spin) }'
