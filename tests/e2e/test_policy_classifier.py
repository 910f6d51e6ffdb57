"""policy_classifier from its corpus to four stacks: trained here, imported, and asked its whole test part as texts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.stablehlo import exporter
from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.reference import load_groups, read_reference
from servepath.client import Client
from tests import stablehlo
from tests.e2e.real_stack import RealStack
from tests.limits import LONG_S
from training.text_classifier.corpus import Corpus, read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]  # training and an import of every format come first

NAME = "policy_classifier"
STACKS = {"torchserve": "mar", "tfserving": "saved_model", "litert": "tflite", "onnx": "onnx"}
REDUCED = {"onnx:int8": "onnx-int8", "onnx:fp16": "onnx-fp16", "torchserve:bf16": "mar-bf16"}
MANY_S = 10 * LONG_S


def run(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, timeout=MANY_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read(Path("models") / NAME / "corpus")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    run("training.text_classifier", "--out", folder / "trained")
    (folder / "spec.toml").write_text('[gate]\nlabelled = "trained/test.tsv"\n')
    words = ["--name", NAME, "--out", folder / "exports", "--deployments", folder / "imported.toml"]
    words += ["--spec", folder / "spec.toml", "--stablehlo", f"--limit-s={MANY_S:g}"]
    words += [f"--precision={each}" for each in ("int8", "fp16", "bf16")]
    run("export.importing", folder / "trained", *words)
    return folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[RealStack]:
    (folder / "run").mkdir()
    stack = RealStack(folder / "exports", folder / "run", (folder / "imported.toml").read_text())
    try:
        stack.start_all()
        yield stack
    finally:
        stack.stop_all()


def probabilities(client: Client, path: str, texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the labels and probabilities of all texts, some with others in a request and some alone."""
    labels, scores = [], []
    for start in range(0, len(texts), 7):
        found = client.predict(path, texts[start : start + 7], timeout_s=LONG_S).outputs
        labels += [label.decode() for label in found["label"]]
        scores.append(found["probabilities"])
    return labels, np.concatenate(scores)


def test_every_stack_gives_every_text_of_the_test_part_the_same_label(
    stack: RealStack, corpus: Corpus, folder: Path
) -> None:
    texts = list(corpus.test.texts)
    with Client(stack.gateway) as client:
        found = {name: probabilities(client, f"{NAME}@{name}", texts) for name in STACKS}
    labels, scores = found["onnx"]
    true = [corpus.labels[number] for number in corpus.test.labels]
    assert sum(map(str.__eq__, labels, true)) / len(true) >= 0.9
    tolerance = read_reference(folder / "exports", NAME).spec.tolerance
    for name in STACKS:
        assert found[name][0] == labels, name
        assert tolerance.holds(found[name][1].astype(np.float64), scores.astype(np.float64)), name
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)


def test_a_reduced_precision_costs_no_more_accuracy_than_its_gate_allows(
    stack: RealStack, corpus: Corpus, folder: Path
) -> None:
    texts, true = list(corpus.test.texts), [corpus.labels[number] for number in corpus.test.labels]
    with Client(stack.gateway) as client:
        right = {
            name: sum(map(str.__eq__, probabilities(client, f"{NAME}@{name}", texts)[0], true)) / len(true)
            for name in ("onnx", *REDUCED)
        }
    for name, artifact_format in REDUCED.items():
        cost = read_manifest(folder / "exports" / NAME / artifact_format / "1").tools["cost"]
        assert f"accuracy {right[name]:.3f} (in full {right['onnx']:.3f})" in cost
        assert right["onnx"] - right[name] <= 0.01


def test_the_labels_are_those_that_training_counted(stack: RealStack, corpus: Corpus, folder: Path) -> None:
    from training.text_classifier import fit, network  # noqa: PLC0415 - transformers takes seconds

    trained = network.pretrained(folder / "trained", corpus.labels)
    texts = list(corpus.test.texts)
    wanted = fit.predict(trained, texts).argmax(1)
    with Client(stack.gateway) as client:
        labels, _ = probabilities(client, NAME, texts)
    assert labels == [corpus.labels[number] for number in wanted]


def test_answers_name_the_artifact_of_their_stack(stack: RealStack, folder: Path) -> None:
    with Client(stack.gateway) as client:
        for name, artifact_format in {**STACKS, **REDUCED}.items():
            served = client.predict(f"{NAME}@{name}", ["May I take a holiday in May?"], timeout_s=LONG_S).served
            manifest = read_manifest(folder / "exports" / NAME / artifact_format / "1")
            assert (served.stack, served.sha256) == (name, manifest.sha256)
            assert served.precision == manifest.spec.precision


def test_the_file_for_tpus_answers_as_the_reference_in_float64(folder: Path) -> None:
    found = folder / "exports" / NAME / "stablehlo" / "1"
    manifest = read_manifest(found)
    assert manifest.parity.max_abs_difference < manifest.spec.tolerance.atol
    predict = exporter.load(found)
    for group in load_groups(folder / "exports" / NAME / "reference" / "1", manifest.spec):
        answer = predict({tensor.name: group[tensor.name][:3] for tensor in manifest.spec.inputs})
        for tensor in manifest.spec.outputs:
            wanted = group[tensor.name][:3]
            assert wanted.dtype == np.float64
            assert manifest.spec.tolerance_of(tensor).holds(answer[tensor.name].astype(np.float64), wanted)


def test_the_file_for_tpus_is_the_same_bytes_from_another_process_and_names_no_path(
    folder: Path, tmp_path: Path
) -> None:
    found = folder / "exports" / NAME / "stablehlo" / "1"
    content = (found / stablehlo.FILE).read_bytes()
    assert content == (stablehlo.again(folder / "trained", found, tmp_path) / stablehlo.FILE).read_bytes()
    assert b"site-packages" not in content
    assert os.fsencode(Path.cwd()) not in content


def test_the_file_for_tpus_multiplies_alike_on_every_platform(folder: Path) -> None:
    (text,) = stablehlo.texts(folder / "exports" / NAME / "stablehlo" / "1")
    branches = stablehlo.branches(text)
    assert len(branches) == 18
    assert [(cpu, tpu) for cpu, tpu in branches if cpu != tpu] == []
    assert stablehlo.inexact(text) == []
    assert stablehlo.wide(text) == ["stablehlo.constant tensor<f64>", "stablehlo.convert (tensor<f64>) -> tensor<f32>"]
