"""External servers of the Open Inference Protocol as stacks: MLServer, KServe's model server and Triton, real ones.

Each serves the ONNX file of one of our models as `theirs`, and `echo`, whose tensors have other names there.
"""

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from report.__main__ import main as report
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.client import Client
from servepath.protocols import oip, servepath
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.oip import oip_pb2
from tests.e2e.real_stack import RealStack
from tests.exports import make_export
from tests.limits import LONG_S
from tests.ports import free_ports

pytestmark = pytest.mark.slow

# Who answers, as tests/interop/NAME.txt pins it.
SERVERS = {"mlserver": "mlserver 1.7.1", "kserve": "kserve 0.21.0", "triton": "triton 2.51.0"}
ECHO = Spec(
    inputs=(
        TensorSpec("n", "INT64", ("batch", 1)),
        TensorSpec("s", "BYTES", ("batch", 1)),
        TensorSpec("h", "FP16", ("batch", 1)),
    ),
    outputs=(
        TensorSpec("n_out", "INT64", ("batch", 1)),
        TensorSpec("s_out", "BYTES", ("batch", 1)),
        TensorSpec("h_out", "FP16", ("batch", 1)),
    ),
    row_independent=True,
    tolerance=Tolerance(0.0, 0.0),
)
BIAS = 0.5
PLANT = """
import sys
from pathlib import Path
from export import stage, trained
from tests.planted import plant, plant_weights
exports, weights = map(Path, sys.argv[1:])
plant(exports, {"simple_nn@onnx": %r})
plant_weights(weights, "simple_nn", %r)
stage.export_format(trained.read(weights, "simple_nn"), "reference", exports, 1)
"""
SERVER = """
[servers.{name}]
protocol = "oip"
[servers.{name}-typed]
protocol = "oip"
contents = "typed"
"""
SIMPLE = """
[models.simple_nn.stacks.{name}]
name = "theirs"
precision = "fp32"
[models.simple_nn.stacks.{name}-typed]
name = "theirs"
precision = "fp32"
[models.lost.stacks.{name}]
name = "nobody"
"""
ECHOED = """
[models.echo.stacks.{name}]
inputs = {{ n = "in-n", s = "in-s", h = "in-h" }}
outputs = {{ n_out = "out-n", s_out = "out-s", h_out = "out-h" }}
"""


class Stage:
    """Our gateway and onnx_svc, and the external servers."""

    def __init__(self, folder: Path) -> None:
        self.exports, self.deployments = folder / "exports", folder / "deployments.toml"
        code = PLANT % (BIAS, BIAS)
        words = [sys.executable, "-c", code, str(self.exports), str(folder / "weights")]
        subprocess.run(words, check=True, timeout=LONG_S)
        make_export(self.exports, "echo", "reference", spec=ECHO)
        make_export(self.exports, "lost", "reference")
        self.folder, self.ours = folder, RealStack(self.exports, folder)
        self.names = [name for name in SERVERS if python_of(name).exists()]
        self._servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything and wait until every path but those to `lost` answers."""
        for name in self.names:
            self._start(name)
        self.deployments.write_text(self._listed())
        self.ours.start("onnx_svc")
        self.ours.start("gateway")
        self.ours.wait_ready(1 + 3 * len(self.names))

    def stop(self) -> None:
        """Stop everything."""
        self.ours.stop_all()
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.wait(LONG_S)

    def _start(self, name: str) -> None:
        ports = free_ports(3)
        address = f"127.0.0.1:{ports[0]}"
        variable = name.upper()
        self.ours.environment |= {f"{variable}_ADDR": address, f"{variable}_TYPED_ADDR": address}
        model = self.exports / "simple_nn/onnx/1/model.onnx"
        words = [str(python_of(name)), f"tests/interop/serve_{name}.py", *map(str, ports), str(model)]
        # Triton's stub of Python is linked to libpython: to the one of this Python, where the system has another.
        library = subprocess.run(
            [words[0], "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
            check=True,
            capture_output=True,
            text=True,
            timeout=LONG_S,
        ).stdout.strip()
        with (self.folder / f"{name}.log").open("wb") as log:
            environment = os.environ | {"LD_LIBRARY_PATH": library}
            self._servers.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))

    def _listed(self) -> str:
        first = self.names[0]
        models = {"simple_nn": "onnx", "lost": first, "echo": first}
        heads = {model: f'[models.{model}]\ndefault = "{default}"\n' for model, default in models.items()}
        text = "[gateway]\nprobe_interval_s = 0.2\n" + "".join(heads.values()) + "[models.simple_nn.stacks.onnx]\n"
        return text + "".join((SERVER + SIMPLE + ECHOED).format(name=name) for name in self.names)


def python_of(name: str) -> Path:
    return Path(f".venv-{name}/bin/python")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("external"))
    if not stage.names:
        pytest.skip("no external server is installed; make e2e and make test-all install them")
    try:
        stage.start()
        yield stage
    finally:
        stage.stop()


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest, stage: Stage) -> str:
    if request.param not in stage.names:
        pytest.skip(f"{request.param} is not installed: make .venv-{request.param}/.installed")
    return str(request.param)


def call(stage: Stage, method: str, payload: bytes) -> bytes:
    with grpc.insecure_channel(stage.ours.gateway) as channel:
        reply: bytes = channel.unary_unary(method)(payload, timeout=LONG_S)
    return reply


def predict(stage: Stage, model: str, *inputs: Tensor) -> Answer:
    payload = servepath.encode_request(Request(model, 0, inputs), model, 0)
    return servepath.decode_answer(call(stage, servepath.METHOD, payload))


def refusal(stage: Stage, model: str, version: int = 0) -> tuple[str, str]:
    request = Request(model, version, (Tensor("x", "FP32", (1, 2), bytes(8)),))
    with pytest.raises(grpc.RpcError) as caught:
        call(stage, servepath.METHOD, servepath.encode_request(request, model, version))
    return caught.value.code().name, caught.value.details()


X = Tensor("x", "FP32", (2, 2), struct.pack("<4f", 1, 2, 3, 4))


@pytest.mark.parametrize("form", ["", "-typed"])
def test_it_answers_as_our_own_stack_does_and_says_who_it_is(stage: Stage, name: str, form: str) -> None:
    ours = predict(stage, "simple_nn@onnx", X)
    answer = predict(stage, f"simple_nn@{name}{form}", X)
    assert answer.outputs == ours.outputs
    assert struct.unpack("<2f", answer.outputs[0].data) == pytest.approx([-3.5, -5.5], rel=1e-5)
    served = answer.served
    assert (served.model, served.stack) == ("simple_nn", name + form)
    assert f"{served.engine} {served.engine_version}" == SERVERS[name]


def test_nobody_claims_to_know_what_it_serves(stage: Stage, name: str) -> None:
    served = predict(stage, f"simple_nn@{name}", X).served
    # Triton numbers its versions; MLServer's is a word here, and KServe names none.
    assert (served.version, served.sha256, served.sha256_observed) == (1 if name == "triton" else 0, "", False)
    asked = oip.encode_request(Request("", 0, (X,)), f"simple_nn@{name}", 0)
    reply = oip_pb2.ModelInferResponse.FromString(call(stage, oip.METHOD, asked))
    said = {key: reply.parameters[key].string_param for key in ("stack", "sha256", "sha256_source")}
    assert said == {"stack": name, "sha256": "", "sha256_source": "unknown"}
    assert reply.model_version == ("1" if name == "triton" else "")


def test_integers_strings_and_halves_pass_under_its_own_names_and_what_nobody_wants_is_left_out(
    stage: Stage, name: str
) -> None:
    strings = b"".join(len(text).to_bytes(4, "little") + text for text in (b"", "h\u00e9".encode()))
    sent = {"n": struct.pack("<2q", -1, 2**40), "s": strings, "h": struct.pack("<2e", 0.5, -65504)}
    inputs = [Tensor(tensor.name, tensor.dtype, (2, 1), sent[tensor.name]) for tensor in ECHO.inputs]
    outputs = {tensor.name: tensor for tensor in predict(stage, f"echo@{name}", *inputs).outputs}
    assert outputs == {f"{one.name}_out": one._replace(name=f"{one.name}_out") for one in inputs}


def test_a_model_that_it_lacks_is_a_mistake_in_the_configuration(stage: Stage, name: str) -> None:
    code, details = refusal(stage, f"lost@{name}")
    assert (code, "lacks a model" in details) == ("INTERNAL", True)
    assert "nobody" not in details


def test_a_version_of_ours_is_none_of_its_own(stage: Stage, name: str) -> None:
    said = f"simple_nn@{name} has no version 1: {name} is an external server, whose versions are its own"
    assert refusal(stage, f"simple_nn@{name}", 1) == ("NOT_FOUND", said)


def test_the_list_of_paths_names_it_and_no_artifact(stage: Stage, name: str) -> None:
    end = time.monotonic() + LONG_S
    with Client(stage.ours.gateway) as client:
        while True:  # a probe that is late makes a path not ready for a moment
            listed = client.list_paths(timeout_s=LONG_S)
            (path,) = [path for path in listed if path.name == f"simple_nn@{name}"]
            if path.ready or time.monotonic() > end:
                break
            time.sleep(0.1)
    assert (path.ready, f"{path.engine} {path.engine_version}", path.sha256) == (True, SERVERS[name], "")


def test_the_load_test_compares_it_with_ours_and_the_report_says_what_is_unknown(stage: Stage) -> None:
    paths = ["onnx", *stage.names]
    out = stage.folder / "results"
    words = ["--paths", ",".join(f"simple_nn@{stack}" for stack in paths), "--via", "both", "--rounds", "1"]
    # A closed loop: an open one builds a backlog at a server that a busy machine slows down.
    words += ["--closed-loop", "--rate", "50", "--min-requests", "1000", "--warmup", "1", "--seed", "1"]
    places = ["--out", str(out), "--exports", str(stage.exports), "--deployments", str(stage.deployments)]
    command = [sys.executable, "-m", "loadtest", *words, *places]
    done = subprocess.run(
        command, env=stage.ours.environment, capture_output=True, text=True, check=False, timeout=LONG_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert report([str(out / "latest")]) in {0, 3}  # 3: a busy machine
    summary = json.loads((out / "latest/summary.json").read_text())
    assert summary["all_responses_correct"], summary["reasons"]
    seen = {(row["stack"], row["via"]): row for row in summary["paths"]}
    for name in stage.names:
        for via in ("direct", "gateway"):
            row: dict[str, Any] = seen[name, via]
            assert f"{row['engine']} {row['engine_version']}" == SERVERS[name]
            assert row["sha256"] == "unknown"
    facts = json.loads((out / "latest/run.json").read_text())
    artifacts = {key: values["artifact"]["value"] for key, values in facts["fairness"]["paths"].items()}
    assert {artifacts[f"simple_nn@{name}.direct"] for name in stage.names} == {"unknown"}
    assert artifacts["simple_nn@onnx.gateway"] not in {"", "unknown"}
    page = (out / "latest/report.html").read_text()
    assert f"simple_nn@{stage.names[0]}" in page.partition("does not say which artifact")[0]


def test_make_up_names_the_server_that_does_not_answer(stage: Stage, tmp_path: Path) -> None:
    environment = RealStack(stage.exports, tmp_path).environment
    file = tmp_path / "external.toml"
    paths = '[models.simple_nn]\ndefault = "onnx"\n[models.simple_nn.stacks.onnx]\n[models.simple_nn.stacks.nobody]\n'
    file.write_text(f'[servers.nobody]\nprotocol = "oip"\n{paths}')
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    environment["NOBODY_ADDR"] = nobody
    places = ["--run-dir", str(tmp_path / "run"), "--exports", str(stage.exports), "--deployments", str(file)]
    command = [sys.executable, "-m", "servepath.runner", "up", *places, "onnx_svc", "gateway"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LONG_S)
    assert done.returncode == 1
    assert f"nobody at {nobody} is not ready after" in done.stderr
    assert "it is not started here: start it, or correct NOBODY_ADDR" in done.stderr
