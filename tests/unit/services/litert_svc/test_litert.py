import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import __version__

from servepath.artifacts.manifest import MANIFEST, ArtifactError
from servepath.artifacts.spec import Spec, TensorSpec
from servepath.protocols.tensors import ITEM_BYTES
from servepath.protocols.types import Tensor
from services.dataplane.engine import EngineError, RunError
from services.litert_svc import litert
from services.litert_svc.config import SERVICE
from services.litert_svc.litert import LiteRtEngine, load
from services.oip_server import artifact
from tests.limits import LONG_S
from tests.manifests import NONE, SPEC
from tests.tiny_tflite import KINDS, Op, T, graph, linear, make_export

FIXED = sorted(KINDS.keys() - {"BYTES"})


def engine(tmp_path: Path, content: bytes, names: Mapping[str, str] = NONE) -> LiteRtEngine:
    file = tmp_path / "model.tflite"
    file.write_bytes(content)
    return LiteRtEngine(file, names)


def echo(dtype: str) -> bytes:
    return graph([T("t", (-1, 2), dtype)], [], (0,), (0,), ({"a": 0}, {"b": 0}))


def floats(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, "FP32", values.shape, values.astype("<f4").tobytes())


def two_inputs() -> bytes:
    """Return a file whose two outputs and inputs cannot be mixed up unseen: doubled = a + a, all = a + b."""
    tensors = [T(name, (-1, -1, 3)) for name in ("t0", "t1", "t2", "t3")]
    operators = [Op("ADD", (0, 0), (2,)), Op("ADD", (0, 1), (3,))]
    return graph(tensors, operators, (1, 0), (3, 2), ({"b": 1, "a": 0}, {"all": 3, "doubled": 2}))


def test_it_says_who_computes(tmp_path: Path) -> None:
    loaded = engine(tmp_path, linear(1))
    assert (loaded.name, loaded.version) == ("litert", __version__)


def test_an_engine_of_one_width_has_interpreters_of_that_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(linear(1))
    loaded = LiteRtEngine(file, NONE, 3)
    loaded.run([floats("x", np.zeros((1, 2)))], ["y"])
    assert {width: len(idle) for width, idle in loaded._idle.items()} == {3: 1}


def test_a_signatures_names_are_the_models(tmp_path: Path) -> None:
    declared = engine(tmp_path, linear(1)).declared()
    assert declared == ((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 1)),))


def test_without_a_signature_the_graphs_names_are(tmp_path: Path) -> None:
    loaded = engine(tmp_path, linear(1, signature=False))
    assert [tensor.name for part in loaded.declared() for tensor in part] == ["graph_x", "graph_y"]
    x = np.array([[1, 2], [3, 4], [0, 0]])
    assert loaded.run((floats("graph_x", x),), ["graph_y"]) == (floats("graph_y", np.array([[6], [12], [1]])),)


def test_a_manifest_may_give_other_names(tmp_path: Path) -> None:
    loaded = engine(tmp_path, linear(1, signature=False), {"x": "graph_x", "y": "graph_y"})
    assert [tensor.name for part in loaded.declared() for tensor in part] == ["x", "y"]
    assert loaded.run((floats("x", np.array([[1, 2]])),), ["y"]) == (floats("y", np.array([[6]])),)


@pytest.mark.parametrize("dtype", FIXED)
def test_elements_of_every_dtype_go_in_and_out_unchanged(tmp_path: Path, dtype: str) -> None:
    loaded = engine(tmp_path, echo(dtype))
    assert loaded.declared()[0] == (TensorSpec("a", dtype, (-1, 2)),)
    data = bytes(number % 2 for number in range(6 * ITEM_BYTES[dtype]))
    assert loaded.run((Tensor("a", dtype, (3, 2), data),), ["b"]) == (Tensor("b", dtype, (3, 2), data),)


def test_quantized_tensors_are_the_whole_numbers_that_they_are(tmp_path: Path) -> None:
    tensors = [T(name, (-1, 2), "INT8", scale=0.5) for name in ("x", "y")]
    loaded = engine(tmp_path, graph(tensors, [Op("RELU", (0,), (1,))], (0,), (1,)))
    assert loaded.declared()[0] == (TensorSpec("x", "INT8", (-1, 2)),)
    assert loaded.run((Tensor("x", "INT8", (1, 2), b"\x05\xfb"),), ["y"]) == (Tensor("y", "INT8", (1, 2), b"\x05\0"),)


def test_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.tflite: 'a' is a .*, which this server does not support"):
        engine(tmp_path, echo("BYTES")).declared()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, linear(1)[:200], b"\0\0\0\0TFL3"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EngineError, match=r"model\.tflite: LiteRT cannot load it \(.+\); import the model again"):
        engine(tmp_path, content)


def test_outputs_come_by_name_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    loaded = engine(tmp_path, two_inputs())
    a, b = np.ones((1, 2, 3)), np.full((1, 2, 3), 10)
    found = loaded.run((floats("a", a), floats("b", b)), ["doubled", "all"])
    assert found == (floats("doubled", 2 * a), floats("all", a + b))
    assert loaded.run((floats("b", b), floats("a", a)), ["all"]) == (floats("all", a + b),)


@pytest.mark.parametrize("shape", [(1, 1, 3), (0, 2, 3), (2, 0, 3), (64, 5, 3)])
def test_open_axes_take_any_size_zero_too(tmp_path: Path, shape: tuple[int, ...]) -> None:
    a = np.arange(np.prod(shape)).reshape(shape)
    loaded = engine(tmp_path, two_inputs())
    loaded.run((floats("a", np.ones((2, 2, 3))), floats("b", np.ones((2, 2, 3)))), ["all"])
    assert loaded.run((floats("a", a), floats("b", a)), ["all"]) == (floats("all", a + a),)


def test_a_size_that_the_model_refuses_fails_the_run_and_spoils_no_later_call(tmp_path: Path) -> None:
    loaded = engine(tmp_path, two_inputs())
    one = floats("a", np.ones((2, 2, 3))), floats("b", np.ones((2, 2, 3)))
    with pytest.raises(RunError):
        loaded.run((one[0], floats("b", np.ones((3, 5, 3)))), ["all"])
    assert loaded.run(one, ["all"]) == (floats("all", np.full((2, 2, 3), 2)),)


def test_concurrent_calls_of_different_shapes_get_their_own_answers(tmp_path: Path) -> None:
    loaded = engine(tmp_path, two_inputs())

    def wrong(caller: int) -> int:
        random, found = np.random.default_rng(caller), 0
        for _ in range(500):
            shape = (int(random.integers(1, 9)), int(random.integers(1, 40)), 3)
            a, b = (random.integers(0, 1000, shape) for _ in range(2))
            answer = loaded.run((floats("a", a), floats("b", b)), ["doubled", "all"])
            found += answer != (floats("doubled", 2 * a), floats("all", a + b))
        return found

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(wrong, range(8), timeout=LONG_S)) == [0] * 8


def folder_with(tmp_path: Path, content: bytes, spec: Spec = SPEC, names: Mapping[str, str] = NONE) -> Path:
    make_export(tmp_path, "mine", content=content, spec=spec, names=names)
    return tmp_path / "mine" / "tflite" / "1"


def test_a_call_that_is_alone_takes_all_cores_and_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "usable_cores", lambda: 3)
    threads: list[int] = []
    interpreter = litert.TfliteModel

    def watched(file: Path, count: int) -> object:
        threads.append(count)
        return interpreter(file, count)

    monkeypatch.setattr(litert, "TfliteModel", watched)
    loaded = engine(tmp_path, linear(1))
    x = Tensor("x", "FP32", (1, 2), bytes(8))
    loaded.run([x], ["y"])
    assert threads == [3]
    with loaded._alone:
        loaded.run([x], ["y"])
    loaded.run([x], ["y"])
    assert threads == [3, 1]


def test_an_artifact_is_loaded_under_its_manifests_names(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, linear(1, signature=False), names={"x": "graph_x", "y": "graph_y"})
    served = artifact.load(folder, SERVICE, load).served
    assert (served.stack, served.engine, served.engine_version) == ("litert", "litert", __version__)


def test_a_manifest_without_names_still_reads(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, linear(1))
    raw = json.loads((folder / MANIFEST).read_text())
    del raw["names"]
    (folder / MANIFEST).write_text(json.dumps(raw))
    assert artifact.load(folder, SERVICE, load).version == 1


def shaped(*x: int | str, y: tuple[int | str, ...] = ("batch", 1)) -> Spec:
    inputs, outputs = (TensorSpec("x", "FP32", x),), (TensorSpec("y", "FP32", y),)
    return Spec(inputs, outputs, row_independent=False, tolerance=SPEC.tolerance)


def test_a_spec_may_fix_an_axis_that_the_file_leaves_open(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, linear(1), shaped(1, 2, y=(1, 1)))
    assert artifact.load(folder, SERVICE, load).signature.spec.inputs[0].shape == (1, 2)


@pytest.mark.parametrize("spec", [shaped("batch", "n"), shaped("batch", 3), shaped("batch", 2, y=("batch", 2))])
def test_an_axis_of_another_size_is_refused(tmp_path: Path, spec: Spec) -> None:
    with pytest.raises(ArtifactError, match=r"model\.tflite: (in|out)puts are "):
        artifact.load(folder_with(tmp_path, linear(1), spec), SERVICE, load)
