"""TFLite files as a source of an import, and as what a SavedModel becomes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.importing.__main__ import main
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.steps import read_proof, read_tflite
from servepath.artifacts.manifest import verify
from servepath.artifacts.spec import Spec
from services.litert_svc.config import SERVICE
from services.litert_svc.litert import load
from services.oip_server import artifact
from tests.limits import LONG_S
from tests.tiny_tflite import Op, T, graph, linear

# What converts in a process of its own: one exporter depends on what was exported before it.
CONVERT = """
import sys
from pathlib import Path
from export.importing import saved_model_to_tflite
from models.frameworks import tensorflow
tf = tensorflow()
made = {"kept": lambda x: x * 2.0, "inverse": tf.linalg.inv}[sys.argv[1]]
serve = tf.function(lambda x: {"y": made(x), "same": x})
serve = serve.get_concrete_function(tf.TensorSpec([None, 3, 3], tf.float32, "x"))
source, folder = Path(sys.argv[2], "source"), Path(sys.argv[2], "tflite")
tf.saved_model.save(tf.Module(), str(source), signatures=serve)
folder.mkdir()
try:
    saved_model_to_tflite.convert(source, folder)
except Exception as error:
    print(type(error).__name__, error)
"""


def found(tmp_path: Path, content: bytes, hints: Hints | None = None) -> tuple[Spec, dict[str, Any]]:
    """Import a file; return what it is, and what was noted of the format."""
    path, work = tmp_path / "of_any_suffix.onnx", tmp_path / "work"
    path.write_bytes(content)
    work.mkdir()
    read_tflite(work, path, hints or Hints(), "m")
    return read_proof(work).spec, json.loads((work / "found.json").read_text())["formats"]["tflite"]


def shapes(spec: Spec) -> dict[str, tuple[int | str, ...]]:
    return {tensor.name: tensor.shape for tensor in spec.inputs + spec.outputs}


def test_a_signatures_names_and_open_axes_are_found(tmp_path: Path) -> None:
    spec, noted = found(tmp_path, linear(1))
    assert shapes(spec) == {"x": ("batch", 2), "y": ("batch", 1)}
    assert (spec.row_independent, noted["names"], noted["difference"]) == (True, {}, 0.0)


def test_the_file_is_kept_as_it_is(tmp_path: Path) -> None:
    found(tmp_path, linear(1))
    assert (tmp_path / "work" / "tflite" / "model.tflite").read_bytes() == linear(1)


def test_without_a_signature_the_user_may_name_tensors(tmp_path: Path) -> None:
    spec, noted = found(tmp_path, linear(1, signature=False), Hints(names={"graph_x": "x", "graph_y": "y"}))
    assert shapes(spec) == {"x": ("batch", 2), "y": ("batch", 1)}
    assert noted["names"] == {"x": "graph_x", "y": "graph_y"}


def test_a_name_that_no_spec_can_have_is_changed(tmp_path: Path) -> None:
    tensors = [T(name, (-1, 2)) for name in ("x#1", "y\n")]
    spec, noted = found(tmp_path, graph(tensors, [Op("ADD", (0, 0), (1,))], (0,), (1,)))
    assert shapes(spec) == {"x_1": ("batch", 2), "y_": ("batch", 2)}
    assert noted["names"] == {"x_1": "x#1", "y_": "y\n"}


def test_quantized_tensors_are_served_as_whole_numbers(tmp_path: Path) -> None:
    tensors = [T(name, (-1, 2), "INT8", scale=0.5) for name in ("x", "y")]
    spec, _ = found(tmp_path, graph(tensors, [Op("RELU", (0,), (1,))], (0,), (1,)))
    assert [tensor.dtype for tensor in spec.inputs + spec.outputs] == ["INT8", "INT8"]


@pytest.mark.parametrize(
    ("content", "hints", "said"),
    [
        (linear(1), Hints(names={"z": "x"}), "the spec names 'z'; the model has 'x', 'y'"),
        (linear(1), Hints(names={"x": "y"}), "two tensors of the model would be called 'y'"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, content: bytes, hints: Hints, said: str) -> None:
    with pytest.raises(Refused, match=said):
        found(tmp_path, content, hints)


@pytest.mark.slow
def test_an_import_has_a_path_on_litert_alone_which_the_server_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, exports, hints = tmp_path / "model.tflite", tmp_path / "exports", tmp_path / "mine.toml"
    path.write_bytes(linear(1, signature=False))
    hints.write_text('[names]\ngraph_x = "x"\ngraph_y = "y"\n')
    words = [f"--out={exports}", f"--deployments={tmp_path / 'deployments.toml'}", f"--spec={hints}"]
    assert main([str(path), "--name=mine", *words]) == 0
    printed = capsys.readouterr().out
    assert "a TFLite file, in a process of its own" in printed
    assert "no path on onnx: it serves onnx, as which a TFLite file cannot be written" in printed
    assert (tmp_path / "deployments.toml").read_text() == (
        '[models.mine]\ndefault = "litert"\n[models.mine.stacks.litert]\n'
    )
    loaded = artifact.load(exports / "mine" / "tflite" / "1", SERVICE, load)
    assert shapes(loaded.spec) == {"x": ("batch", 2), "y": ("batch", 1)}
    assert verify(exports / "mine" / "reference" / "1").names == {}
    assert main([str(path), "--name=mine", *words]) == 0
    assert "tflite: version 1 was there already, and matches its manifest" in capsys.readouterr().out


def convert(tmp_path: Path, what: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, what, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return done.stdout


@pytest.mark.slow
def test_a_saved_model_is_written_under_its_signatures_names(tmp_path: Path) -> None:
    assert convert(tmp_path, "kept") == ""
    spec, noted = found(tmp_path, (tmp_path / "tflite" / "model.tflite").read_bytes())
    assert shapes(spec) == {"x": ("batch", 3, 3), "y": ("batch", 3, 3), "same": ("batch", 3, 3)}
    assert noted["names"] == {}


@pytest.mark.slow
def test_what_litert_has_no_operator_for_is_one_sentence(tmp_path: Path) -> None:
    assert convert(tmp_path, "inverse") == (
        "ExportError TensorFlow cannot write it as TFLite: LiteRT has no operator, or none of this dtype, for "
        "MatrixInverse\n"
    )
    assert list((tmp_path / "tflite").iterdir()) == []
