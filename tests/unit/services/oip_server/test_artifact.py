import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from servepath.artifacts.manifest import MANIFEST, ArtifactError, digest, hash_files
from servepath.artifacts.spec import Spec, TensorSpec
from servepath.protocols.errors import BadInput
from servepath.protocols.types import Tensor
from services.dataplane.engine import EngineError, RunError
from services.oip_server.artifact import ProbedEngine, load
from services.onnx_svc.config import SERVICE
from services.onnx_svc.ort import OrtEngine
from tests.manifests import SPEC
from tests.tiny_onnx import linear, make_export

ON_CPU = partial(OrtEngine, device="cpu")


def folder_with(tmp_path: Path, spec: Spec = SPEC) -> Path:
    make_export(tmp_path, "simple_nn", content=linear(1), spec=spec)
    return tmp_path / "simple_nn" / "onnx" / "1"


def renamed(**changes: object) -> Spec:
    """Return the spec with its input changed."""
    (x,) = SPEC.inputs
    fields = {"name": x.name, "dtype": x.dtype, "shape": x.shape, **changes}
    return Spec((TensorSpec(**fields),), SPEC.outputs, SPEC.row_independent, SPEC.tolerance)  # type: ignore[arg-type]


class Odd:
    """An Engine that declares what it should and answers otherwise."""

    name = "odd"
    version = "1"
    slow_first_runs = False

    def __init__(self, answer: Tensor | Exception) -> None:
        self._answer = answer

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        return SPEC.inputs, SPEC.outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        assert (len(inputs), list(outputs)) == (1, ["y"])
        if isinstance(self._answer, Exception):
            raise self._answer
        return (self._answer,)


def test_a_loaded_artifact_says_what_it_is(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    served = load(folder, SERVICE, ON_CPU).served
    assert served.model == "simple_nn"
    assert (served.stack, served.engine, served.version) == ("onnx", "onnxruntime", 1)
    assert (served.sha256, served.sha256_observed) == (digest(hash_files(folder)), True)


@pytest.mark.parametrize(
    "changes", [{"name": "z"}, {"dtype": "FP64"}, {"shape": ("batch", 3)}, {"shape": ("batch", 2, 1)}]
)
def test_a_file_whose_tensors_are_not_the_manifests_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = folder_with(tmp_path, renamed(**changes))
    with pytest.raises(ArtifactError, match=r"model\.onnx: inputs are x FP32 \[-1, 2\], the manifest says"):
        load(folder, SERVICE, ON_CPU)


def test_a_folder_under_another_number_than_its_manifests_is_refused(tmp_path: Path) -> None:
    moved = folder_with(tmp_path).rename(tmp_path / "simple_nn" / "onnx" / "2")
    with pytest.raises(ArtifactError, match="its manifest is that of simple_nn/onnx/1"):
        load(moved, SERVICE, ON_CPU)


def test_an_artifact_with_external_data_is_refused_even_when_its_hashes_are_right(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "model.onnx.data").write_bytes(b"weights")
    manifest = json.loads((folder / MANIFEST).read_text())
    files = hash_files(folder)
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files, "contents": files, "sha256": digest(files)}))
    with pytest.raises(ArtifactError, match=r"expected model\.onnx alone: external data files are not loaded"):
        load(folder, SERVICE, ON_CPU)


@pytest.mark.parametrize("name", ["model.onnx.data", "notes.txt"])
def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path, name: str) -> None:
    folder = folder_with(tmp_path)
    (folder / name).touch()
    with pytest.raises(ArtifactError, match=f"{name} is not in the manifest"):
        load(folder, SERVICE, ON_CPU)


@pytest.mark.parametrize(
    "answer",
    [
        Tensor("z", "FP32", (1, 1), bytes(4)),
        Tensor("y", "FP64", (1, 1), bytes(8)),
        Tensor("y", "FP32", (1, 2), bytes(8)),
        Tensor("y", "FP32", (2, 1), bytes(8)),
    ],
)
def test_a_model_that_answers_its_probe_wrongly_is_refused(tmp_path: Path, answer: Tensor) -> None:
    with pytest.raises(
        ArtifactError, match=r"the probe's inputs get a wrong answer \(.*(lacks an output|is not 1 rows of FP32)"
    ):
        load(folder_with(tmp_path), SERVICE, lambda _: Odd(answer))


def test_a_model_that_refuses_its_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the engine refuses the probe's inputs"):
        load(folder_with(tmp_path), SERVICE, lambda _: Odd(BadInput("no")))


class Picky(Odd):
    """An Engine that runs for a probe of one row alone, or not at all."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__(Tensor("y", "FP32", (1, 1), bytes(4)))
        self._broken = broken

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        if self._broken or inputs[0].shape[0] != 1:
            raise RunError("no kernel")
        return super().run(inputs, outputs)


def test_a_run_that_fails_is_the_inputs_fault_while_the_probe_still_runs() -> None:
    one, two = (Tensor("x", "FP32", (rows, 2), bytes(8 * rows)) for rows in (1, 2))
    probed = ProbedEngine(Picky(), (one,), ["y"])
    assert probed.run((one,), ["y"])[0].shape == (1, 1)
    with pytest.raises(BadInput, match="rejected an element of its input, or the size of an axis"):
        probed.run((two,), ["y"])
    with pytest.raises(RunError):
        ProbedEngine(Picky(broken=True), (one,), ["y"]).run((two,), ["y"])


def test_a_run_that_fails_once_is_tried_again() -> None:
    class Once(Picky):
        failed = False

        def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
            if not self.failed:
                self.failed = True
                raise RunError("no memory at this moment")
            return super().run(inputs, outputs)

    one = Tensor("x", "FP32", (1, 2), bytes(8))
    assert ProbedEngine(Once(), (one,), ["y"]).run((one,), ["y"])[0].shape == (1, 1)
