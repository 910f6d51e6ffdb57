"""Misrouting cannot hide behind equivalent models.

Every path's weights have a bias of their own, and so has every version.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from servepath.protocols import oip, servepath, tfserving
from servepath.protocols.types import Answer, Request, Tensor
from tests.e2e.real_stack import BACKENDS, RealStack
from tests.limits import LONG_S

PATHS = ("simple_nn@torchserve", "simple_nn@onnx", "keras_dense@tfserving", "keras_dense@onnx")
DEFAULTS = {"simple_nn": "simple_nn@torchserve", "keras_dense": "keras_dense@tfserving"}
BIASES = {path: float(1 + number) for number, path in enumerate(PATHS)}
SECOND = {path: 10 + bias for path, bias in BIASES.items()}
# tests/planted.py: every planted path answers x @ [2, -3] + its bias.
KERNEL = np.array([[2.0], [-3.0]])
SERVICE_OF = {"torchserve": "torch_svc", "tfserving": "tf_svc", "onnx": "onnx_svc"}


def plant(exports: Path, biases: dict[str, float], version: int) -> None:
    """Plant in a process of its own: PyTorch and TensorFlow stay out of this one."""
    code = (
        f"from pathlib import Path; from tests.planted import plant; plant(Path({str(exports)!r}), {biases}, {version})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStack]:
    folder = tmp_path_factory.mktemp("planted")
    plant(folder / "exports", BIASES, 1)
    stack = RealStack(folder / "exports", folder)
    try:
        stack.start_all()
        yield stack
    finally:
        codes = stack.stop_all()
    assert codes == dict.fromkeys(codes, 0)


@pytest.fixture(scope="module")
def channel(stack: RealStack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.gateway) as channel:
        yield channel


def predict(channel: grpc.Channel, name: str, x: np.ndarray, version: int = 0) -> Answer:
    request = Request(name, version, (Tensor("x", "FP32", x.shape, x.astype("<f4").tobytes()),))
    call = channel.unary_unary(servepath.METHOD)
    return servepath.decode_answer(call(servepath.encode_request(request, name, version), timeout=LONG_S))


def infer(channel: grpc.Channel, name: str, x: np.ndarray, version: int = 0) -> Answer:
    request = Request(name, version, (Tensor("x", "FP32", x.shape, x.astype("<f4").tobytes()),))
    call = channel.unary_unary(oip.METHOD)
    return oip.decode_answer(call(oip.encode_request(request, name, version), timeout=LONG_S), name, "")


def bias_of(answer: Answer, x: np.ndarray) -> float:
    """Return the bias that an answer betrays, the same in all its rows."""
    (output,) = answer.outputs
    assert output.shape == (len(x), 1)
    found = np.frombuffer(output.data, "<f4").reshape(-1, 1) - x @ KERNEL
    assert np.ptp(found) < 1e-4
    return float(np.round(found.mean(), 3))


def payloads(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.uniform(-10, 10, (random.integers(1, 9), 2)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("ask", [predict, infer])
@pytest.mark.parametrize("name", [*PATHS, *DEFAULTS])
def test_every_name_is_answered_by_its_own_path(channel: grpc.Channel, name: str, ask: type[predict]) -> None:
    path = DEFAULTS.get(name, name)
    for x in payloads(50):
        answer = ask(channel, name, x)
        assert bias_of(answer, x) == BIASES[path]
        assert answer.served.stack == path.split("@")[1]
        assert answer.served.version == 1


def test_a_caller_of_bad_shapes_fails_nobody_else_on_tensorflow_servings_path(
    stack: RealStack, channel: grpc.Channel
) -> None:
    """Bad shapes come through the gateway and past it, straight to the server, while good calls are in flight."""
    path, stop, refused = "keras_dense@tfserving", threading.Event(), {"gateway": 0, "direct": 0}
    bad = Request("keras_dense", 0, (Tensor("x", "FP32", (1, 3), bytes(12)),))
    past = grpc.insecure_channel(stack.environment["TF_SVC_ADDR"])

    def misbehave(name: str, call: "grpc.UnaryUnaryMultiCallable[bytes, bytes]", payload: bytes) -> None:
        while not stop.is_set():
            with pytest.raises(grpc.RpcError) as caught:
                call(payload, timeout=LONG_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            refused[name] += 1

    gateway = (channel.unary_unary(servepath.METHOD), servepath.encode_request(bad, path, 0))
    direct = (past.unary_unary(tfserving.METHOD), tfserving.encode_request(bad, "keras_dense", 0))
    with past, ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(misbehave, "gateway", *gateway), pool.submit(misbehave, "direct", *direct)]
        try:
            for x in payloads(2000):
                assert bias_of(predict(channel, path, x), x) == BIASES[path]
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    assert min(refused.values()) > 100


@pytest.mark.slow
def test_a_killed_backend_takes_its_own_paths_down_and_comes_back(stack: RealStack, channel: grpc.Channel) -> None:
    for service in BACKENDS:
        down = [path for path in PATHS if SERVICE_OF[path.split("@")[1]] == service]
        others = [path for path in PATHS if path not in down]
        family = stack.kill(service)
        for number, x in enumerate(payloads(1000)):
            path = others[number % len(others)]
            assert bias_of(predict(channel, path, x), x) == BIASES[path]
        for path in down:
            with pytest.raises(grpc.RpcError) as caught:
                predict(channel, path, payloads(1)[0])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert psutil.wait_procs(family, LONG_S)[1] == []
        stack.start(service)
        accepting = wait_accepting(stack.environment[f"{service.upper()}_ADDR"])
        for path in down:
            x = payloads(1)[0]
            assert bias_of(first_answer(channel, path, x, accepting + LONG_S), x) == BIASES[path]
        stack.wait_ready(len(PATHS))


def wait_accepting(address: str) -> float:
    """Wait until a server accepts connections; return the time.monotonic() of that."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=LONG_S)
        return time.monotonic()


def first_answer(channel: grpc.Channel, path: str, x: np.ndarray, until: float) -> Answer:
    """Predict until there is an answer, at the latest at `until`."""
    while True:
        try:
            return predict(channel, path, x)
        except grpc.RpcError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


@pytest.mark.slow
def test_a_new_version_is_served_by_those_who_look_and_each_reply_names_it(
    stack: RealStack, channel: grpc.Channel
) -> None:
    # Last in this file: it changes what the paths serve.
    looking = [path for path in PATHS if not path.endswith("@torchserve")]
    plant(stack.folder / "exports", {path: SECOND[path] for path in PATHS}, 2)
    end = time.monotonic() + LONG_S
    waiting = set(looking)
    while waiting and time.monotonic() < end:
        for path in list(waiting):
            for x in payloads(5):
                answer = predict(channel, path, x)
                assert bias_of(answer, x) == {1: BIASES, 2: SECOND}[answer.served.version][path]
            if answer.served.version == 2:
                waiting.remove(path)
    assert waiting == set()
    x = payloads(1)[0]
    assert bias_of(predict(channel, "simple_nn@torchserve", x), x) == BIASES["simple_nn@torchserve"]
    assert bias_of(predict(channel, "simple_nn@onnx", x, version=1), x) == BIASES["simple_nn@onnx"]
