import fcntl
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy

from export import __main__ as command
from export import onnx_file, parity, reference, stage, trained
from export.errors import ExportError, ParityError
from export.formats import FORMATS
from models import frameworks
from models.registry import read_models
from servepath.artifacts.manifest import artifact_folder, current_version, read_manifest, verify
from tests.limits import LONG_S
from tests.planted import KERNEL, answer, plant_weights

pytestmark = pytest.mark.slow

ALL = [(name, kind) for name, model in read_models().items() for kind in model.formats]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with trained models in models/ and all their artifacts in exports/; never changed."""
    root = tmp_path_factory.mktemp("whole")
    for name in read_models():
        plant_weights(root / "models", name, bias=0.5)
        stage.export_model(trained.read(root / "models", name), root / "exports")
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def export(root: Path, name: str = "simple_nn") -> list[str]:
    """Export a model; return the formats that were written."""
    return [each.format for each in stage.export_model(trained.read(root / "models", name), root / "exports")]


def run(root: Path, *words: str) -> int:
    return command.main([*words, "--models", str(root / "models"), "--out", str(root / "exports")])


def versions(root: Path, name: str = "simple_nn") -> dict[str, list[str]]:
    folder = root / "exports" / name
    return {kind: sorted(path.name for path in (folder / kind).glob("*")) for kind in read_models()[name].formats}


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_every_artifact_has_a_manifest_that_tells_the_truth(whole: Path, name: str, kind: str) -> None:
    manifest = verify(artifact_folder(whole / "exports", name, kind, 1))
    assert (manifest.model, manifest.format, manifest.version) == (name, kind, 1)
    assert manifest.spec == read_models()[name].spec
    assert manifest.parity.inputs >= 1000
    assert manifest.parity.batch_sizes == (1, 2, 7, 64)
    assert manifest.parity.max_abs_difference < 1e-5
    assert manifest.parity.batch_equals_singles
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?|unknown", manifest.git_commit)
    assert manifest.tools.keys() >= {"python", *FORMATS[read_models()[name].framework, kind].tools}
    assert current_version(whole / "exports", name) == 1


def test_all_formats_of_a_model_have_one_version_and_one_source(whole: Path) -> None:
    for name, model in read_models().items():
        folders = [artifact_folder(whole / "exports", name, kind, 1) for kind in model.formats]
        assert len({read_manifest(folder).source for folder in folders}) == 1


def test_the_archive_holds_what_the_handler_needs_and_nothing_that_runs_on_loading(whole: Path) -> None:
    folder = artifact_folder(whole / "exports", "simple_nn", "mar", 1)
    members = zipfile.ZipFile(folder / "simple_nn.mar").namelist()
    served = {"handler.py", "model-config.yaml", "model.py", "spec.json", "weights.safetensors"}
    assert set(members) == served | {"MAR-INF/MANIFEST.json"}
    assert read_manifest(folder).contents.keys() == served
    described = json.loads(zipfile.ZipFile(folder / "simple_nn.mar").read("MAR-INF/MANIFEST.json"))["model"]
    assert described["modelName"] == "simple_nn"
    assert described["modelVersion"] == "1"
    assert described["handler"] == "handler.py"
    assert described["configFile"] == "model-config.yaml"


@pytest.mark.parametrize("name", read_models())
def test_an_onnx_file_stands_alone_with_stable_names_and_a_free_batch_axis(whole: Path, name: str) -> None:
    folder = artifact_folder(whole / "exports", name, "onnx", 1)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]
    model = onnx.load(folder / "model.onnx")
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"x": ["batch", 2], "y": ["batch", 1]}
    assert str(Path(__file__).parent.parent).encode() not in (folder / "model.onnx").read_bytes()
    assert b"site-packages" not in (folder / "model.onnx").read_bytes()
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    assert read_manifest(folder).tools["onnx_opset"] == str(opset)


def test_the_saved_model_has_the_serving_signature_with_the_names_of_the_spec(whole: Path) -> None:
    folder = artifact_folder(whole / "exports", "keras_dense", "saved_model", 1)
    assert {path.name for path in folder.iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}
    signature = frameworks.tensorflow().saved_model.load(str(folder)).signatures["serving_default"]
    _, inputs = signature.structured_input_signature
    assert {name: spec.shape.as_list() for name, spec in inputs.items()} == {"x": [None, 2]}
    assert {name: spec.shape.as_list() for name, spec in signature.structured_outputs.items()} == {"y": [None, 1]}


def test_tensorflows_own_command_line_runs_the_saved_model(whole: Path) -> None:
    folder = artifact_folder(whole / "exports", "keras_dense", "saved_model", 1)
    words = ["run", "--dir", folder, "--tag_set", "serve", "--signature_def", "serving_default"]
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [program, *words, "--input_exprs", "x=[[1.0, 2.0]]"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = float(re.search(r"output key y:\n\[\[(.*)\]\]", printed)[1])  # type: ignore[index]
    np.testing.assert_allclose(found, answer(np.array([[1.0, 2.0]]), 0.5).item(), rtol=1e-5)


@pytest.mark.parametrize("name", ["simple_nn", "keras_dense"])
def test_the_reference_holds_inputs_and_their_float64_answers_row_by_row(whole: Path, name: str) -> None:
    path = artifact_folder(whole / "exports", name, "reference", 1) / "reference.safetensors"
    tensors = safetensors.numpy.load(path.read_bytes())
    assert {key: (values.dtype, values.shape) for key, values in tensors.items()} == {
        "x": (np.dtype(np.float32), (4096, 2)),
        "y": (np.dtype(np.float64), (4096, 1)),
    }
    np.testing.assert_allclose(tensors["y"], answer(tensors["x"], 0.5), rtol=1e-15)


def test_an_export_with_nothing_new_writes_nothing_and_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}
    assert run(root) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"} == before
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: version 1 is up to date, all files match their manifests" for name in read_models()
    ]


def test_an_export_with_nothing_new_imports_no_framework(whole: Path) -> None:
    words = ["-m", "export", "--models", str(whole / "models"), "--out", str(whole / "exports")]
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert imported.isdisjoint({"torch", "tensorflow", "keras", "onnx", "onnxruntime", "jax"})


def test_weights_of_other_values_raise_the_version_of_every_format_and_keep_the_old_one(root: Path) -> None:
    plant_weights(root / "models", "simple_nn", bias=1.5)
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert versions(root) == {"mar": ["1", "2"], "onnx": ["1", "2"], "stablehlo": ["1", "2"], "reference": ["1", "2"]}
    assert current_version(root / "exports", "simple_nn") == 2
    for version, bias in ((1, 0.5), (2, 1.5)):
        folder = artifact_folder(root / "exports", "simple_nn", "onnx", version)
        verify(folder)
        x = np.ones((1, 2), np.float32)
        np.testing.assert_allclose(onnx_file.load(folder)({"x": x})["y"], answer(x, bias))
    archive = artifact_folder(root / "exports", "simple_nn", "mar", 2) / "simple_nn.mar"
    assert json.loads(zipfile.ZipFile(archive).read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"] == "2"


def test_files_of_other_bytes_with_the_same_weights_raise_no_version(root: Path) -> None:
    path = root / "models" / "keras_dense" / "model.keras"
    before = path.read_bytes()
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content.replace(b'"date_saved": "', b'"date_saved": "0'))
    assert path.read_bytes() != before
    assert export(root, "keras_dense") == []


def test_another_contract_raises_the_version(root: Path) -> None:
    path = root / "models" / "simple_nn" / "spec.json"
    spec = json.loads(path.read_text())
    spec["tolerance"]["atol"] = 2e-5
    path.write_text(json.dumps(spec))
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert current_version(root / "exports", "simple_nn") == 2


def test_the_same_weights_give_the_same_artifacts_byte_by_byte(root: Path, tmp_path: Path) -> None:
    for name, kind in (
        ("simple_nn", "mar"),
        ("simple_nn", "onnx"),
        ("keras_dense", "onnx"),
        ("simple_nn", "stablehlo"),
        ("keras_dense", "stablehlo"),
        ("simple_nn", "reference"),
    ):
        again = stage.export_format(trained.read(root / "models", name), kind, tmp_path / "again", 1)
        assert again.sha256 == read_manifest(artifact_folder(root / "exports", name, kind, 1)).sha256


def test_an_artifact_beyond_the_tolerance_is_refused_and_nothing_is_left(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "models" / "simple_nn" / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tolerance": {"rtol": 0, "atol": 1e-9}}))
    assert run(root, "simple_nn") == 1
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"python -m export: simple_nn as mar: the largest difference of 'y' from the float64 reference is \S+e-0\d, "
        r"the tolerance is rtol 0, atol 1e-09; nothing was kept\n",
        said,
    )
    assert versions(root) == {"mar": ["1"], "onnx": ["1"], "stablehlo": ["1"], "reference": ["1"]}
    assert list((root / "exports" / "simple_nn").glob("*/.*")) == []
    assert current_version(root / "exports", "simple_nn") == 1


def test_weights_that_differ_from_those_of_the_reference_are_caught_by_running_the_artifact(root: Path) -> None:
    honest = trained.read(root / "models", "simple_nn")
    weights = {"linear.weight": KERNEL.T, "linear.bias": np.array([0.501], np.float32)}
    for kind in ("mar", "onnx", "stablehlo"):
        other = trained.Trained(honest.name, honest.path, honest.spec, weights)
        with pytest.raises(ParityError, match=rf"simple_nn as {kind}: the largest difference .* is 0\.001"):
            stage.export_format(other, kind, root / "other", 1)
        assert list((root / "other" / "simple_nn" / kind).iterdir()) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("mar/1/simple_nn.mar", cut, "simple_nn.mar does not match its manifest"),
        ("onnx/1/model.onnx", Path.unlink, "model.onnx is missing"),
        ("reference/1/manifest.json", cut, "manifest.json is not a manifest"),
        ("onnx/1/manifest.json", Path.unlink, "manifest.json is missing"),
    ],
)
def test_a_damaged_artifact_is_one_clear_line_and_is_fixed_as_it_says(
    root: Path, file: str, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "exports" / "simple_nn" / file
    damage(path)
    assert run(root, "simple_nn") == 1
    error = capsys.readouterr().err
    assert said in error
    assert "make export" in error
    assert error.count("\n") == 1
    shutil.rmtree(path.parent)
    # A server that loaded or refused version 1 would not look at it again.
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    both = {kind: ["1", "2"] for kind in read_models()["simple_nn"].formats}
    assert versions(root) == both | {path.parent.parent.name: ["2"]}
    assert current_version(root / "exports", "simple_nn") == 2


def test_a_new_version_can_be_asked_for_though_nothing_has_changed(root: Path) -> None:
    assert run(root, "simple_nn", "--new-version") == 0
    assert versions(root) == {"mar": ["1", "2"], "onnx": ["1", "2"], "stablehlo": ["1", "2"], "reference": ["1", "2"]}
    assert export(root) == []


def test_a_number_of_a_half_made_version_is_not_written_again_after_its_artifact_was_removed(root: Path) -> None:
    plant_weights(root / "models", "simple_nn", bias=1.5)
    in_the_way = root / "exports" / "simple_nn" / "onnx"
    shutil.move(in_the_way, root / "aside")
    in_the_way.write_text("a file where a folder should be")
    assert run(root, "simple_nn") == 1  # the .mar of version 2 is there, and a server may have loaded it
    in_the_way.unlink()
    shutil.move(root / "aside", in_the_way)
    shutil.rmtree(root / "exports" / "simple_nn" / "mar" / "2")
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert current_version(root / "exports", "simple_nn") == 3


def test_a_number_that_was_current_is_never_written_again(root: Path) -> None:
    for kind in read_models()["simple_nn"].formats:
        shutil.rmtree(root / "exports" / "simple_nn" / kind / "1")
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert versions(root) == {"mar": ["2"], "onnx": ["2"], "stablehlo": ["2"], "reference": ["2"]}


def test_a_version_that_stopped_half_way_is_finished_under_its_own_number(root: Path) -> None:
    plant_weights(root / "models", "simple_nn", bias=1.5)
    stage.export_format(trained.read(root / "models", "simple_nn"), "mar", root / "exports", 2)
    assert current_version(root / "exports", "simple_nn") == 1
    assert export(root) == ["onnx", "stablehlo", "reference"]
    assert current_version(root / "exports", "simple_nn") == 2
    # The export that was killed had not noted it: the one that finished did, and the number is not written again.
    shutil.rmtree(root / "exports" / "simple_nn" / "mar" / "2")
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert current_version(root / "exports", "simple_nn") == 3


def test_a_half_made_version_of_other_weights_is_passed_over(root: Path) -> None:
    plant_weights(root / "models", "simple_nn", bias=1.5)
    stage.export_format(trained.read(root / "models", "simple_nn"), "mar", root / "exports", 2)
    plant_weights(root / "models", "simple_nn", bias=2.5)
    assert export(root) == ["mar", "onnx", "stablehlo", "reference"]
    assert current_version(root / "exports", "simple_nn") == 3
    assert versions(root) == {
        "mar": ["1", "2", "3"],
        "onnx": ["1", "3"],
        "stablehlo": ["1", "3"],
        "reference": ["1", "3"],
    }


def test_while_a_format_fails_the_old_version_stays_current(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant_weights(root / "models", "simple_nn", bias=1.5)
    shutil.move(root / "exports" / "simple_nn" / "onnx", root / "aside")
    (root / "exports" / "simple_nn" / "onnx").write_text("a file where a folder should be")
    assert run(root, "simple_nn") == 1
    assert "simple_nn as onnx, version 2" in capsys.readouterr().err
    assert current_version(root / "exports", "simple_nn") == 1


def test_what_a_killed_export_left_half_written_is_removed(root: Path) -> None:
    leftover = root / "exports" / "simple_nn" / "onnx" / ".2.abcdef"
    leftover.mkdir()
    (leftover / "model.onnx").write_bytes(b"half")
    assert export(root) == []
    assert not leftover.exists()


def test_two_exports_of_one_model_do_not_run_at_the_same_time(root: Path) -> None:
    with (root / "exports" / "simple_nn" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ExportError, match="another export of simple_nn is running"):
            export(root)
    assert export(root) == []


@pytest.mark.parametrize("name", read_models())
def test_an_untrained_model_is_one_clear_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, name) == 1
    assert re.fullmatch(
        rf"python -m export: \S+/spec.json is missing: {name} has not been trained; run: make train\n",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "exports").exists()


@pytest.mark.parametrize("file", ["simple_nn/weights.safetensors", "keras_dense/model.keras", "simple_nn/spec.json"])
def test_weights_cut_in_half_are_one_clear_line(root: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "models" / file
    cut(path)
    assert run(root, path.parent.name) == 1
    error = capsys.readouterr().err
    assert str(path.parent) in error
    assert "make train" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [("no_such_model",), ("--no-such-option",)])
def test_a_bad_word_is_one_clear_line_and_exit_code_2(words: tuple[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words[0].lstrip("-") in error
    assert error.count("\n") == 1


def test_a_reference_file_whose_rows_do_not_belong_together_is_refused(root: Path) -> None:
    folder = artifact_folder(root / "exports", "simple_nn", "reference", 1)
    tensors = safetensors.numpy.load((folder / reference.FILE).read_bytes())
    tensors["y"] = np.roll(tensors["y"], 1, axis=0)
    (folder / reference.FILE).write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(ParityError, match="largest difference"):
        parity.check(trained.read(root / "models", "simple_nn"), "reference", reference.load(folder))
