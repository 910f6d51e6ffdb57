import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.errors import BadInput
from servepath.protocols.tensors import ITEM_BYTES, pack
from servepath.protocols.types import Tensor
from services.dataplane.engine import EngineError
from services.onnx_svc import ort
from services.onnx_svc.ort import SMALL_RUNS, OrtEngine
from tests.tiny_onnx import linear, model_file

KINDS = {
    "BOOL": TensorProto.BOOL,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    **{f"INT{bits}": getattr(TensorProto, f"INT{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": getattr(TensorProto, f"UINT{bits}") for bits in (8, 16, 32, 64)},
}


def engine(tmp_path: Path, content: bytes) -> OrtEngine:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    return OrtEngine(file, "cpu")


def echo(kind: int) -> bytes:
    values = [helper.make_tensor_value_info(name, kind, ["batch", 2]) for name in ("a", "b")]
    return model_file(helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "echo", values[:1], values[1:]))


def with_weights_in(location: str) -> bytes:
    weights = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        weights.external_data.add(key=key, value=value)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", size]) for n, size in (("x", 2), ("y", 1)))
    return model_file(helper.make_graph([node], "external", [x], [y], [weights]))


def test_it_says_which_provider_really_computes(tmp_path: Path) -> None:
    loaded = engine(tmp_path, linear(1))
    assert (loaded.name, loaded.version) == ("onnxruntime", f"{onnxruntime.__version__} (CPUExecutionProvider)")


def test_it_declares_names_dtypes_and_shapes_with_the_batch_axis_open(tmp_path: Path) -> None:
    declared = engine(tmp_path, linear(1)).declared()
    assert declared == ((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 1)),))


@pytest.mark.parametrize("dtype", list(KINDS))
def test_elements_of_every_dtype_go_in_and_out_unchanged(tmp_path: Path, dtype: str) -> None:
    loaded = engine(tmp_path, echo(KINDS[dtype]))
    assert loaded.declared()[0] == (TensorSpec("a", dtype, (-1, 2)),)
    data = bytes(number % 2 for number in range(6 * ITEM_BYTES[dtype]))
    assert loaded.run((Tensor("a", dtype, (3, 2), data),), ["b"]) == (Tensor("b", dtype, (3, 2), data),)


def test_text_goes_in_and_out_unchanged(tmp_path: Path) -> None:
    data = pack("a", "BYTES", [b"", b"a\0b", "é中".encode(), b"x" * 1000])
    loaded = engine(tmp_path, echo(TensorProto.STRING))
    assert loaded.run((Tensor("a", "BYTES", (2, 2), data),), ["b"]) == (Tensor("b", "BYTES", (2, 2), data),)


def test_a_type_that_we_have_no_form_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"'a' is a tensor\(bfloat16\)"):
        engine(tmp_path, echo(TensorProto.BFLOAT16)).declared()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, linear(1)[:40]])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime cannot load it \(.+\); run: make export"):
        engine(tmp_path, content)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "../../../../../../../etc/passwd", "absent"])
def test_weights_outside_the_models_folder_are_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(EngineError, match="ONNX Runtime cannot load it"):
        engine(folder, with_weights_in(location))


def test_an_element_that_the_model_refuses_is_bad_input(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.ones(3, np.float32), "t")
    k, v = (
        helper.make_tensor_value_info("k", TensorProto.INT64, ["b"]),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, ["b"]),
    )
    graph: onnx.GraphProto = helper.make_graph([helper.make_node("Gather", ["t", "k"], ["v"])], "g", [k], [v], [table])
    with pytest.raises(BadInput) as caught:
        engine(tmp_path, model_file(graph)).run((Tensor("k", "INT64", (1,), (7).to_bytes(8, "little")),), ["v"])
    assert caught.value.reason == "BAD_INPUT.CONTENT"


def square(size: int, layers: int = 1) -> bytes:
    """Return a model of y = x, by way of matrices of their own."""
    names = ["x", *(f"h{layer}" for layer in range(1, layers)), "y"]
    identity = np.eye(size, dtype=np.float32)
    weights = [numpy_helper.from_array(identity, f"w{layer}") for layer in range(layers)]
    nodes = [helper.make_node("MatMul", [a, w.name], [b]) for (a, b), w in zip(pairwise(names), weights, strict=True)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name in ("x", "y")]
    return model_file(helper.make_graph(nodes, "square", values[:1], values[1:], weights))


class Watched:
    """A session that says when it runs."""

    def __init__(self, session: Any, name: str, used: list[str]) -> None:
        self._session, self._name, self._used = session, name, used

    def run(self, *args: Any) -> Any:
        self._used.append(self._name)
        return self._session.run(*args)


def test_sessions_of_one_core_and_of_all_share_their_weights_and_answer_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "SHARED_BYTES", 2**20)
    monkeypatch.setattr(ort, "usable_cores", lambda: 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    loaded = engine(tmp_path, square(1024))
    x = Tensor("x", "FP32", (2, 1024), np.arange(2048, dtype=np.float32).tobytes())
    loaded.run([x], ["y"])
    used: list[str] = []
    loaded._narrow = Watched(loaded._narrow, "one core", used)
    loaded._wide = Watched(loaded._wide, "all", used)
    alone = loaded.run([x], ["y"])
    with loaded._alone:
        beside_another = loaded.run([x], ["y"])
    assert alone == beside_another == (x._replace(name="y"),)
    assert used == ["all", "one core"]
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert len(maps) >= 2
    assert all(line.endswith("weights (deleted)") for line in maps)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_two_sessions_take_no_memory_of_their_own_for_shared_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "usable_cores", lambda: 2)
    content = square(1024, 32)
    engine(tmp_path, linear(1))  # what ONNX Runtime takes for itself
    before = memory_of_its_own()
    loaded = engine(tmp_path, content)
    loaded.run([Tensor("x", "FP32", (1, 1024), bytes(4096))], ["y"])
    assert memory_of_its_own() - before < len(content) / 2


def test_without_room_for_shared_weights_every_run_takes_one_core_and_the_log_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ort, "SHARED_BYTES", 2**20)
    monkeypatch.setattr(ort, "usable_cores", lambda: 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    loaded = engine(tmp_path, square(1024))
    assert loaded._wide is None
    assert "the weights cannot be shared by two sessions (" in caplog.text
    assert "has no room for 16 MB); set TMPDIR to a folder with room" in caplog.text


def test_a_temporary_folder_that_cannot_be_used_does_not_keep_a_model_from_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ort, "SHARED_BYTES", 2**20)
    monkeypatch.setattr(ort, "usable_cores", lambda: 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    loaded = engine(tmp_path, square(1024))
    x = Tensor("x", "FP32", (1, 1024), bytes(4096))
    assert loaded.run([x], ["y"]) == (x._replace(name="y"),)
    assert "set TMPDIR to a folder with room" in caplog.text


def test_one_core_has_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "usable_cores", lambda: 1)
    assert engine(tmp_path, linear(1))._wide is None


@pytest.mark.parametrize("cores", [1, 2])
def test_memory_of_large_requests_is_given_back_after_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(ort, "usable_cores", lambda: cores)
    width = 2**15
    weights = numpy_helper.from_array(np.ones((1, width), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=1),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in ("x", "y")]
    loaded = engine(tmp_path, model_file(helper.make_graph(nodes, "wide", values[:1], values[1:], [weights])))
    one, many = (Tensor("x", "FP32", (rows, 1), b"\0" * 4 * rows) for rows in (1, 2000))
    loaded.run([one], ["y"])
    before = memory()
    loaded.run([many], ["y"])
    with loaded._alone:  # in the session of one core
        loaded.run([many], ["y"])
    largest = memory()
    for _ in range(SMALL_RUNS):
        loaded.run([one], ["y"])
    held = 2000 * 4 * width
    assert largest - before > held / 2
    assert memory() - before < held / 4


def memory_of_its_own() -> int:
    """Return the bytes of memory that this process has and no file has."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if ":" in line)
    return int(lines["Pss_Anon"].split()[0]) * 1024


def memory() -> int:
    """Return the bytes of memory that this process has."""
    return int(psutil.Process().memory_info().rss)
