"""A SavedModel with two inputs and outputs, imported, served by litert_svc, and asked through the gateway."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.reference import Reference, read_reference
from servepath.protocols import oip, servepath
from servepath.protocols.arrays import from_values, to_array
from servepath.protocols.probes import check, probe_request
from servepath.protocols.types import Answer, Request
from tests.limits import LONG_S

ROOT = Path(__file__).parents[4]
DEPLOYMENTS = '[models.pair]\ndefault = "litert"\n[models.pair.stacks.litert]\n'
pytestmark = pytest.mark.slow  # an import takes TensorFlow three times
LISTENS = re.compile(r"listening on (127\.0\.0\.1:\d+),")


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def service(*words: str, **environment: str) -> Iterator[str]:
    """Start a service; yield its address, and stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port=0", "--metrics-port=0"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        yield next(found[1] for found in map(LISTENS.search, process.stderr) if found)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    run("tests.savedmodels", str(folder / "source"), "pair=1")
    source, out = folder / "source" / "pair" / "saved_model" / "1", folder / "exports"
    printed = run("servepath", "import", str(source), "--name=pair", f"--out={out}", "--no-deploy")
    assert "  tflite: version 1 written" in printed
    (folder / "deployments.toml").write_text(DEPLOYMENTS)
    return out


@pytest.fixture(scope="module")
def reference(exports: Path) -> Reference:
    return read_reference(exports, "pair")


@pytest.fixture(scope="module")
def ask(exports: Path) -> Iterator[dict[str, object]]:
    """Yield how to ask litert_svc itself, and the gateway."""
    with ExitStack() as stack:
        direct = stack.enter_context(service("services.litert_svc", f"--models={exports}"))
        words = (f"--deployments={exports.parent / 'deployments.toml'}", f"--exports={exports}")
        gateway = stack.enter_context(service("services.gateway", *words, LITERT_SVC_ADDR=direct))
        infer, predict = (
            stack.enter_context(grpc.insecure_channel(address)).unary_unary(method)
            for address, method in ((direct, oip.METHOD), (gateway, servepath.METHOD))
        )

        def ask_directly(request: Request) -> Answer:
            return oip.decode_answer(infer(oip.encode_request(request, "pair", 0), timeout=LONG_S), "pair", "")

        def ask_gateway(request: Request) -> Answer:
            payload = servepath.encode_request(request, "pair@litert", 0)
            return servepath.decode_answer(predict(payload, timeout=LONG_S, wait_for_ready=True))

        yield {"direct": ask_directly, "gateway": ask_gateway}


@pytest.mark.parametrize("way", ["direct", "gateway"])
def test_every_golden_row_has_its_answer_by_name_alone_and_in_batches(
    ask: dict[str, object], reference: Reference, exports: Path, way: str
) -> None:
    sha256 = read_manifest(exports / "pair" / "tflite" / "1").sha256
    assert {tensor.name for tensor in reference.spec.outputs} == {"quotient", "doubled"}
    assert reference.spec.row_independent
    for group in range(len(reference.groups)):
        for pick in (slice(0, 1), slice(0, 7), ...):
            asked = probe_request(reference, pick, group)
            answer = ask[way](asked.request)  # type: ignore[operator]
            check("pair@litert", answer, asked)
            assert (answer.served.stack, answer.served.sha256) == ("litert", sha256)


@pytest.mark.parametrize("way", ["direct", "gateway"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 11), (70, 2)])
def test_open_axes_take_sizes_that_the_import_did_not_try(
    ask: dict[str, object], way: str, shape: tuple[int, int]
) -> None:
    left, also = (np.random.default_rng(seed).uniform(1, 2, shape).astype(np.float32) for seed in (1, 2))
    request = Request("pair", 0, (from_values("left", "FP32", left), from_values("also", "FP32", also)))
    answer = ask[way](request)  # type: ignore[operator]
    found = {tensor.name: to_array(tensor) for tensor in answer.outputs}
    np.testing.assert_allclose(found["quotient"], left / also, rtol=1e-6)
    np.testing.assert_allclose(found["doubled"], 2 * left, rtol=1e-6)
