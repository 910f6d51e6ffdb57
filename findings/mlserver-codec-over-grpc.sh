#!/usr/bin/env bash
# A model that answers NaN, or that is asked with strings, fails on MLServer over gRPC.
#
# Versions: mlserver 1.7.1 (pinned below), the newest in November 2026; Python 3.11, Linux x86_64, CPU.
# Guess: a runtime that decodes its input by NumpyCodec and encodes what NumPy gave by it, as MLServer's documentation
# does, passes every value of FP32 and every BYTES tensor on.
# Behaviour: NumpyCodec.encode_output puts None in the place of NaN (JSON has no NaN), and gRPC's contents cannot hold
# None: the call ends INTERNAL; infinities pass. Of BYTES it takes the last axis of the shape for the length of each
# string: two strings of shape [2, 1] are two arrays of one byte each, so that longer ones end INTERNAL, and strings of
# that length come back as another shape's elements.
# Seen on 2026-11-28:
#   FP32 [inf, 1.5]: OK [inf, 1.5]
#   FP32 [nan, 1.5]: INTERNAL required argument is not a float
#   BYTES [2, 1] of 1 byte: OK [2, 1] [b'ab']
#   BYTES [2, 1] of 2 bytes: INTERNAL cannot reshape array of size 4 into shape (2,1)
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mlserver==1.7.1 numpy==2.4.6 grpcio==1.85.3 protobuf==6.33.6
cat >"$folder/serve.py" <<'PYTHON'
import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Echo(MLModel):
    async def predict(self, payload):
        outputs = [NumpyCodec.encode_output("y", NumpyCodec.decode_input(tensor)) for tensor in payload.inputs]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main(grpc_port, http_port, metrics_port):
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    settings = Settings(host="127.0.0.1", parallel_workers=0, debug=False, **ports)
    await MLServer(settings).start([ModelSettings(name="echo", implementation=Echo)])


asyncio.run(main(*map(int, sys.argv[1:])))
PYTHON
cat >"$folder/check.py" <<'PYTHON'
import contextlib
import os
import socket
import struct
import subprocess
import sys

import grpc
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
    ports = [each.getsockname()[1] for each in sockets]
command = [sys.executable, os.path.join(os.path.dirname(__file__), "serve.py"), *map(str, ports)]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
stub = GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{ports[0]}"))


def ask(datatype, shape, raw):
    request = pb.ModelInferRequest(model_name="echo", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    try:
        return stub.ModelInfer(request, timeout=30, wait_for_ready=True)
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


def floats(*values):
    reply = ask("FP32", [2], struct.pack("<2f", *values))
    said = reply if isinstance(reply, str) else f"OK {list(struct.unpack('<2f', reply.raw_output_contents[0]))}"
    print(f"FP32 {list(values)}: {said}")


def strings(*values):
    reply = ask("BYTES", [2, 1], b"".join(struct.pack("<I", len(value)) + value for value in values))
    if not isinstance(reply, str):
        raw, found = reply.raw_output_contents[0], []
        while raw:
            size = struct.unpack_from("<I", raw)[0]
            found.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        reply = f"OK {list(reply.outputs[0].shape)} {found}"
    print(f"BYTES [2, 1] of {len(values[0])} byte{'s' * (len(values[0]) > 1)}: {reply}")


try:
    grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{ports[0]}")).result(120)
    while not stub.ServerReady(pb.ServerReadyRequest(), timeout=30).ready:
        pass
    floats(float("inf"), 1.5)
    floats(float("nan"), 1.5)
    strings(b"a", b"b")
    strings(b"ab", b"cd")
finally:
    server.terminate()
    server.wait(60)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
FP32 [inf, 1.5]: OK [inf, 1.5]
FP32 [nan, 1.5]: INTERNAL required argument is not a float
BYTES [2, 1] of 1 byte: OK [2, 1] [b'ab']
BYTES [2, 1] of 2 bytes: INTERNAL cannot reshape array of size 4 into shape (2,1)
SEEN
