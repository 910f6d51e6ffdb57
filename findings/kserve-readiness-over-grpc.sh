#!/usr/bin/env bash
# KServe's model server over gRPC: what is not ready is UNKNOWN or answered all the same, and versions mean nothing.
#
# Versions: kserve 0.21.0 (pinned below), the newest in November 2026; Python 3.11, Linux x86_64, CPU.
# Guess: its gRPC interceptor maps ModelNotReady to UNAVAILABLE, as its code says, so that clients try again; a model whose
# ModelReady is false does not answer; a request for a version that does not exist is refused, or the reply names the one
# that answered.
# Behaviour: the interceptor reads `reason` of ModelNotReady, which has none, and the AttributeError leaves as UNKNOWN. A
# model that is not ready is loaded, and then asked whatever load() said. Any version is answered, and the reply names
# none.
# Seen on 2026-11-28:
#   model that raises ModelNotReady: UNKNOWN Unexpected <class 'AttributeError'>: 'ModelNotReady' object has no attribute 'reason'
#   model whose ModelReady is false: OK, model_version ""
#   version "7" of a model without versions: OK, model_version ""
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check kserve==0.21.0 grpcio==1.85.3 protobuf==6.33.6
cat >"$folder/serve.py" <<'PYTHON'
import sys
import threading

from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.errors import ModelNotReady


class Constant(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def load(self):
        return self.ready

    def predict(self, payload, headers=None, response_headers=None):
        output = InferOutput(name="y", shape=[1], datatype="FP32", data=[0.5])
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


class Raising(Constant):
    def predict(self, payload, headers=None, response_headers=None):
        raise ModelNotReady(self.name)


asleep = Constant("asleep")
# A model is registered only if it is ready; later it may not be.
threading.Timer(5.0, lambda: setattr(asleep, "ready", False)).start()
server = ModelServer(grpc_port=int(sys.argv[1]), http_port=int(sys.argv[2]), workers=1, enable_grpc=True)
server.start([Constant("ready"), asleep, Raising("raising")])
PYTHON
cat >"$folder/check.py" <<'PYTHON'
import contextlib
import os
import socket
import subprocess
import sys
import time

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
command = [sys.executable, os.path.join(os.path.dirname(__file__), "serve.py"), *map(str, ports)]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
channel = grpc.insecure_channel(f"127.0.0.1:{ports[0]}")
stub = GRPCInferenceServiceStub(channel)


def ask(name, version=""):
    request = pb.ModelInferRequest(model_name=name, model_version=version, raw_input_contents=[b"\0\0\0\0"])
    request.inputs.add(name="x", datatype="FP32", shape=[1])
    try:
        return f'OK, model_version "{stub.ModelInfer(request, timeout=30).model_version}"'
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


try:
    grpc.channel_ready_future(channel).result(120)
    while stub.ModelReady(pb.ModelReadyRequest(name="asleep"), timeout=30).ready:
        time.sleep(0.1)
    print(f"model that raises ModelNotReady: {ask('raising')}")
    print(f"model whose ModelReady is false: {ask('asleep')}")
    print(f'version "7" of a model without versions: {ask("ready", "7")}')
finally:
    server.terminate()
    server.wait(60)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
model that raises ModelNotReady: UNKNOWN Unexpected <class 'AttributeError'>: 'ModelNotReady' object has no attribute 'reason'
model whose ModelReady is false: OK, model_version ""
version "7" of a model without versions: OK, model_version ""
SEEN
