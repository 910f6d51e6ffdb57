#!/usr/bin/env bash
# MLServer, freshly installed and with its defaults, never loads a model: the uvloop that pip takes ends its workers.
#
# Versions: mlserver 1.7.1, the newest in November 2026, with uvloop 0.23.0, which pip takes for it, and with 0.21.0;
# Python 3.11, Linux x86_64, CPU.
# Guess: MLServer asks for uvloop without an upper bound, so its newest release works.
# Behaviour: by default models run in worker processes (parallel_workers = 1). Each asks for the current event loop before
# it has one: uvloop 0.21 gave it one, 0.23 raises RuntimeError. The worker ends, and no model is loaded. With
# parallel_workers = 0 it works.
# Seen on 2026-11-28:
#   uvloop 0.21.0, default workers: the model is ready
#   uvloop 0.23.0, default workers: RuntimeError: There is no current event loop in thread 'MainThread'.
#   uvloop 0.23.0, no workers: the model is ready
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mlserver==1.7.1 uvloop==0.23.0
cat >"$folder/runtime.py" <<'PYTHON'
from mlserver import MLModel
from mlserver.types import InferenceResponse


class Nothing(MLModel):
    async def predict(self, payload):
        return InferenceResponse(model_name=self.name, outputs=[])
PYTHON
echo '{"name": "nothing", "implementation": "runtime.Nothing"}' >"$folder/model-settings.json"
cat >"$folder/check.py" <<'PYTHON'
import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

folder = os.path.dirname(os.path.abspath(__file__))
with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
    names = ("grpc_port", "http_port", "metrics_port")
    ports = {name: each.getsockname()[1] for name, each in zip(names, sockets)}
workers = {} if sys.argv[1] == "default" else {"parallel_workers": 0}
with open(os.path.join(folder, "settings.json"), "w") as file:
    json.dump({"host": "127.0.0.1", **ports, **workers}, file)
log = os.path.join(folder, "log")
ready = f"http://127.0.0.1:{ports['http_port']}/v2/models/nothing/ready"
found = "neither ready nor failed in 60 s"
with open(log, "w") as output:
    command = [os.path.join(os.path.dirname(sys.executable), "mlserver"), "start", folder]
    server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
try:
    for _ in range(120):
        time.sleep(0.5)
        errors = [line.strip() for line in open(log) if line.startswith("RuntimeError: ")]
        if errors:
            found = errors[0]
            break
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(ready, timeout=5).status == 200:
                found = "the model is ready"
                break
finally:
    os.killpg(server.pid, signal.SIGKILL)  # its workers, too
    server.wait()
print(f"uvloop {importlib.metadata.version('uvloop')}, {sys.argv[1]} workers: {found}")
PYTHON
python="$folder/venv/bin/python"
{
    "$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.21.0 2>/dev/null
    "$python" "$folder/check.py" default
    "$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
    "$python" "$folder/check.py" default
    "$python" "$folder/check.py" no
} | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
uvloop 0.21.0, default workers: the model is ready
uvloop 0.23.0, default workers: RuntimeError: There is no current event loop in thread 'MainThread'.
uvloop 0.23.0, no workers: the model is ready
SEEN
