"""Calls a gateway with tritonclient, a client nobody here wrote, and prints what it saw as JSON.

Run by tests/e2e/test_interop.py in a virtual environment of its own (tests/interop/requirements.txt): tritonclient
wants another protobuf than ours, and its messages clash with any other module of package `inference`.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

READY_S = 120.0


def infer(
    client: InferenceServerClient,
    name: str,
    rows: Any,
    *,
    input_name: str = "x",
    dtype: str = "FP32",
    version: str = "",
) -> dict[str, Any]:
    """Return the answer's rows and its parameters."""
    array = np.array(rows, {"FP32": np.float32, "FP64": np.float64}[dtype])
    tensor = InferInput(input_name, array.shape, dtype)
    tensor.set_data_from_numpy(array)
    result = client.infer(name, [tensor], model_version=version, request_id="interop", client_timeout=120)
    reply = result.get_response()
    return {
        "rows": result.as_numpy("y").tolist(),
        "id": reply.id,
        "version": reply.model_version,
        "parameters": {key: value.string_param or value.int64_param for key, value in reply.parameters.items()},
    }


def refusal(call: Callable[[], Any]) -> str:
    """Return the status that a call is refused with."""
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return "OK"


def comes_true(ask: Callable[[], bool]) -> bool:
    """Return whether the answer is yes within READY_S: a probe that is late makes a path not ready for a moment."""
    end = time.monotonic() + READY_S
    while not (yes := ask()) and time.monotonic() < end:
        time.sleep(0.1)
    return yes


def main(address: str, names: Sequence[str]) -> None:
    """Print one JSON object: metadata and answers by name, refusals by case."""
    client = InferenceServerClient(address)
    good, (name, *_) = [[1, 2], [3, 4]], names
    print(
        json.dumps(
            {
                "live": client.is_server_live(),
                "ready": comes_true(client.is_server_ready),
                "server": client.get_server_metadata(as_json=True),
                "metadata": {n: client.get_model_metadata(n, as_json=True) for n in names},
                "models_ready": [comes_true(partial(client.is_model_ready, n)) for n in names],
                "answers": {n: infer(client, n, good) for n in names},
                "refusals": {
                    "unknown model": refusal(lambda: infer(client, "nobody", good)),
                    "unknown path": refusal(lambda: infer(client, f"{name.split('@')[0]}@nobody", good)),
                    "unknown version": refusal(lambda: infer(client, name, good, version="99")),
                    "unknown model's metadata": refusal(lambda: client.get_model_metadata("nobody")),
                    "unknown model's readiness": refusal(lambda: client.is_model_ready("nobody")),
                    "wrong shape": refusal(lambda: infer(client, name, [[1, 2, 3]])),
                    "wrong rank": refusal(lambda: infer(client, name, [1, 2])),
                    "wrong dtype": refusal(lambda: infer(client, name, good, dtype="FP64")),
                    "wrong input name": refusal(lambda: infer(client, name, good, input_name="z")),
                    "wrong name syntax": refusal(lambda: infer(client, "../etc/passwd", good)),
                    "unknown version label": refusal(lambda: infer(client, name, good, version="one")),
                    "wrong version syntax": refusal(lambda: infer(client, name, good, version="1.0")),
                    "nothing wrong": refusal(lambda: infer(client, name, good)),
                },
            },
        ),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
