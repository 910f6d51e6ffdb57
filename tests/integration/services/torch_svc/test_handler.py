import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from services.torch_svc.handler import SHAPES, Handler, choose_device

AFFINE = """
import torch
class Affine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.calls = []
    def forward(self, x):
        self.calls.append(len(x))
        return self.linear(x)
"""
# Fails as an embedding does on an index that it does not have; two inputs, two outputs.
PICKY = """
import torch
class Picky(torch.nn.Module):
    def forward(self, a, b):
        if (a > 100).any():
            raise IndexError("index out of range")
        return a + b.sum(1, keepdim=True), a.to(torch.float64)
"""
X = {"name": "x", "dtype": "FP32", "shape": ["batch", 2]}
Y = {"name": "y", "dtype": "FP32", "shape": ["batch", 1]}
A = {"name": "a", "dtype": "FP32", "shape": ["batch", 1]}
B = {"name": "b", "dtype": "INT64", "shape": ["batch", 3]}


def made(folder: Path, source: str, weights: Mapping[str, NDArray[Any]], **spec: Any) -> Handler:
    """Return a handler initialised over a folder laid out as TorchServe unpacks an archive."""
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_text("{}")
    (folder / "model.py").write_text(source)
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(dict(weights)))
    (folder / "spec.json").write_text(json.dumps({"row_independent": True} | spec))
    described = {"modelFile": "model.py", "serializedFile": "weights.safetensors", "modelVersion": "7"}
    properties = {"model_dir": str(folder), "gpu_id": None, "server_version": "0.12.0"}
    handler = Handler()
    handler.initialize(SimpleNamespace(system_properties=properties, manifest={"model": described}))
    return handler


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({"SERVEPATH_THREADS": "3"}, 3), ({"SERVEPATH_THREADS": "3", "OMP_NUM_THREADS": "1"}, 2), ({}, 2)],
)
def test_a_worker_takes_the_threads_that_torch_svc_says_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], threads: int
) -> None:
    before = torch.get_num_threads()
    for name in ("SERVEPATH_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(2)  # what torch itself would have taken
    try:
        weights = {"linear.weight": np.zeros((1, 2), np.float32), "linear.bias": np.zeros(1, np.float32)}
        made(tmp_path, AFFINE, weights, inputs=[X], outputs=[Y])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def affine(tmp_path: Path) -> Handler:
    weights = {"linear.weight": np.array([[2, -3]], np.float32), "linear.bias": np.array([0.5], np.float32)}
    return made(tmp_path, AFFINE, weights, inputs=[X], outputs=[Y])


@pytest.fixture
def picky(tmp_path: Path) -> Handler:
    outputs = [
        {"name": "sum", "dtype": "FP32", "shape": ["batch", 1]},
        {"name": "copy", "dtype": "FP64", "shape": ["batch", 1]},
    ]
    return made(tmp_path, PICKY, {}, inputs=[A, B], outputs=outputs)


def item(rows: Sequence[Sequence[float]]) -> dict[str, bytes]:
    return {"x": bytearray(np.array(rows, "<f4").tobytes())}


def pair(a: Sequence[float], b: Sequence[Sequence[int]]) -> dict[str, bytes]:
    return {"a": np.array(a, "<f4").tobytes(), "b": np.array(b, "<i8").tobytes()}


def metadata(reply: bytes) -> dict[str, str]:
    header: dict[str, dict[str, str]] = json.loads(reply[8 : 8 + int.from_bytes(reply[:8], "little")])
    return header["__metadata__"]


def tensors(reply: bytes) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = safetensors.numpy.load(reply)
    return found


def test_a_batch_of_requests_is_one_forward_and_each_gets_its_own_rows(affine: Handler) -> None:
    replies = affine.handle([item([[1, 2]]), item([[0, 0], [1, 1], [2, 1]]), item([[5, 0]])], None)
    assert [tensors(reply)["y"].tolist() for reply in replies] == [[[-3.5]], [[0.5], [-0.5], [1.5]], [[10.5]]]
    assert affine.model.calls == [5]


def test_a_reply_says_who_answered_with_which_version_of_which_files(affine: Handler, tmp_path: Path) -> None:
    (reply,) = affine.handle([item([[1, 2]])], None)
    lines = "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("model.py", "spec.json", "weights.safetensors")
    )
    assert metadata(reply) == {
        "engine": "torchserve",
        "precision": "fp32",
        "engine_version": "0.12.0",
        "version": "7",
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def test_a_reply_says_the_precision_that_the_spec_names(affine: Handler, tmp_path: Path) -> None:  # noqa: ARG001 - its files
    spec = json.loads((tmp_path / "spec.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "precision": "fp16"}))
    described = {"modelFile": "model.py", "serializedFile": "weights.safetensors", "modelVersion": "7"}
    half = Handler()
    properties = {"model_dir": str(tmp_path), "server_version": "0.12.0"}
    half.initialize(SimpleNamespace(system_properties=properties, manifest={"model": described}))
    (reply,) = half.handle([item([[1, 2]])], None)
    assert metadata(reply)["precision"] == "fp16"


def test_what_python_leaves_beside_the_files_does_not_change_their_hash(affine: Handler, tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"x")
    described = {"modelFile": "model.py", "serializedFile": "weights.safetensors", "modelVersion": "7"}
    again = Handler()
    again.initialize(
        SimpleNamespace(
            system_properties={"model_dir": str(tmp_path), "server_version": "0.12.0"}, manifest={"model": described}
        )
    )
    assert again.identity == affine.identity


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        ({"x": b"\x00" * 7}, "BAD_INPUT.SHAPE", "input 'x' has 7 bytes, not a multiple of 8"),
        ({"x": b"\x00" * 4}, "BAD_INPUT.SHAPE", "input 'x' has 4 bytes, not a multiple of 8"),
        (
            {"x": b"\x00" * 8, SHAPES: b'{"x": [2, 2]}'},
            "BAD_INPUT.SHAPE",
            "input 'x' has 8 bytes, expected 4 bytes for each element of [2, 2]",
        ),
        (
            {"x": b"\x00" * 8, SHAPES: b'{"x": [2, 1]}'},
            "BAD_INPUT.SHAPE",
            "input 'x' has the shape [2, 1], expected ['batch', 2]; axes of one name have one size",
        ),
        (
            {"x": b"\x00" * 8, SHAPES: b'{"x": [-1, 2]}'},
            "BAD_INPUT.SHAPE",
            "the shape of input 'x' is not a list of sizes",
        ),
        (
            {"x": b"\x00" * 4, SHAPES: json.dumps({"x": [1] * 100}).encode()},
            "BAD_INPUT.SHAPE",
            "input 'x' cannot have the shape that it says",
        ),
        (
            {"x": b"", SHAPES: json.dumps({"x": [0, 10**30]}).encode()},
            "BAD_INPUT.SHAPE",
            "input 'x' cannot have the shape that it says",
        ),
        ({"x": b"\x00" * 8, SHAPES: b"[]"}, "BAD_INPUT.SHAPE", "#shapes is not a JSON object"),
        ({}, "BAD_INPUT.NAME", "input 'x' is missing"),
        ({"z": b""}, "BAD_INPUT.NAME", "there is no input 'z'"),
        ({"x": b"\x00" * 8, "z": b""}, "BAD_INPUT.NAME", "there is no input 'z'"),
        ({"x": {"decoded": "JSON"}}, "BAD_INPUT.DTYPE", "input 'x' is not raw bytes"),
    ],
)
def test_a_bad_item_is_refused_in_its_own_reply_and_the_others_are_answered(
    affine: Handler, bad: dict[str, Any], reason: str, said: str
) -> None:
    first, refused, last = affine.handle([item([[1, 2]]), bad, item([[5, 0]])], None)
    assert tensors(refused) == {}
    assert metadata(refused) == affine.identity | {"error": said, "reason": reason}
    assert [tensors(reply)["y"].tolist() for reply in (first, last)] == [[[-3.5]], [[10.5]]]


def test_a_batch_of_bad_items_alone_is_refused_without_a_forward(affine: Handler) -> None:
    replies = affine.handle([{}, {"x": b"1"}], None)
    assert [metadata(reply)["reason"] for reply in replies] == ["BAD_INPUT.NAME", "BAD_INPUT.SHAPE"]
    assert affine.model.calls == []


def test_not_a_number_in_one_item_stays_in_that_item(affine: Handler) -> None:
    replies = affine.handle([item([[1, 2]]), item([[float("nan"), 1]]), item([[float("inf"), 0], [1, 2]])], None)
    first, second, third = (tensors(reply)["y"].ravel() for reply in replies)
    assert first.tolist() == [-3.5]
    assert np.isnan(second).all()
    assert third.tolist() == [float("inf"), -3.5]


def test_zero_rows_are_answered_by_zero_rows(affine: Handler) -> None:
    alone = affine.handle([item([])], None)
    beside = affine.handle([item([]), item([[1, 2]]), item([])], None)
    assert [tensors(reply)["y"].shape for reply in (*alone, *beside)] == [(0, 1), (0, 1), (1, 1), (0, 1)]


def test_a_model_of_several_inputs_and_outputs_gets_and_gives_all_by_name(picky: Handler) -> None:
    first, second = picky.handle([pair([1], [[1, 2, 3]]), pair([2, 3], [[0, 0, 1], [5, 5, 5]])], None)
    assert tensors(first)["sum"].tolist() == [[7]]
    assert tensors(second)["sum"].tolist() == [[3], [18]]
    assert tensors(second)["copy"].dtype == np.float64


SUM = {"name": "sum", "dtype": "FP32", "shape": ["batch", 1]}
DIFFERENCE = {"name": "difference", "dtype": "FP32", "shape": ["batch", 1]}
FORMS = {
    "parameters in another order, a dict": "forward(self, c, a): return {'difference': a - c, 'sum': a + c}",
    "one dict, a dict": "forward(self, t): return {'difference': t['a'] - t['c'], 'sum': t['a'] + t['c']}",
    "a named tuple": "forward(self, c, a): return Results(a - c, a + c)",
    "other names, a tuple": "forward(self, first, second): return first + second, first - second",
    "any number of tensors": "forward(self, *given): return sum(given), given[0] - given[1]",
    "names that are not to be used": "forward(self, a, c, /): return a + c, a - c",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_model_gets_its_inputs_and_gives_its_outputs_by_name_where_it_has_these_names(
    tmp_path: Path, form: str
) -> None:
    source = (
        "import collections, torch\nResults = collections.namedtuple('Results', 'difference sum', module='elsewhere')\n"
        f"class Net(torch.nn.Module):\n    def {form}\n"
    )
    handler = made(tmp_path, source, {}, inputs=[A, A | {"name": "c"}], outputs=[SUM, DIFFERENCE])
    (reply,) = handler.handle([{"a": np.array([5], "<f4").tobytes(), "c": np.array([2], "<f4").tobytes()}], None)
    found = tensors(reply)
    assert (found["sum"].tolist(), found["difference"].tolist()) == ([[7]], [[3]])


def test_inputs_of_different_row_counts_are_refused(picky: Handler) -> None:
    (reply,) = picky.handle([pair([1, 2], [[1, 2, 3]])], None)
    assert metadata(reply)["reason"] == "BAD_INPUT.SHAPE"


def test_an_item_whose_values_the_model_cannot_take_fails_alone(picky: Handler) -> None:
    items = [pair([n], [[0, 0, 0]]) for n in (1, 101, 3)]
    first, refused, last = picky.handle(items, None)
    assert metadata(refused) == picky.identity | {
        "error": "the model failed on these values",
        "reason": "BAD_INPUT.VALUE",
    }
    assert [tensors(reply)["sum"].tolist() for reply in (first, last)] == [[[1]], [[3]]]


def test_a_model_whose_rows_depend_on_each_other_is_never_merged(tmp_path: Path) -> None:
    weights = {"linear.weight": np.array([[2, -3]], np.float32), "linear.bias": np.array([0.5], np.float32)}
    handler = made(tmp_path, AFFINE, weights, inputs=[X], outputs=[Y], row_independent=False)
    replies = handler.handle([item([[1, 2]]), item([[0, 0], [1, 1]])], None)
    assert [tensors(reply)["y"].tolist() for reply in replies] == [[[-3.5]], [[0.5], [-0.5]]]
    assert handler.model.calls == [1, 2]


def test_weights_that_do_not_fit_the_model_stop_it_from_loading(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"linear\.bias"):
        made(tmp_path, AFFINE, {"linear.weight": np.zeros((1, 2), np.float32)}, inputs=[X], outputs=[Y])


def test_without_a_gpu_assigned_the_cpu_is_used() -> None:
    assert choose_device(None).type == "cpu"


GUARDED = """
import torch
class Guarded(torch.nn.Module):
    def forward(self, x):
        assert len(x) <= 2
        return x[:, :1]
"""


def test_a_guard_that_refuses_a_merged_batch_fails_no_item_that_it_takes_alone(tmp_path: Path) -> None:
    handler = made(tmp_path, GUARDED, {}, inputs=[X], outputs=[Y])
    first, second, refused = handler.handle([item([[1, 2]]), item([[3, 4], [5, 6]]), item([[0, 0]] * 3)], None)
    assert [tensors(reply)["y"].tolist() for reply in (first, second)] == [[[1]], [[3], [5]]]
    assert metadata(refused)["reason"] == "BAD_INPUT.VALUE"
