import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest import replay
from loadtest.payloads import PlannedRequest, shapes
from loadtest.replay import fingerprint, read_requests
from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import to_array
from servepath.settings import SettingsError

SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", ("batch", "length")), TensorSpec("n", "INT64", ("batch",))),
    outputs=(TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(rtol=0.0, atol=0.5),
)
ROWLESS = Spec((TensorSpec("x", "FP32", (2, "t")),), (TensorSpec("y", "FP32", ()),), False, Tolerance(0.0, 0.5))  # noqa: FBT003


def read(
    path: Path, spec: Spec = SPEC, rows: int = 1, say: Callable[[str], object] = lambda _: None
) -> list[PlannedRequest]:
    return read_requests(path, Reference("m", 1, spec, []), rows=rows, say=say)


def values(one: PlannedRequest) -> dict[str, Any]:
    return {tensor.name: to_array(tensor).tolist() for tensor in one.request.inputs}


def lines(path: Path, *entries: Any) -> Path:
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return path


def test_rows_of_an_npz_become_requests_group_by_group_in_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    more = {"x#1": np.zeros((2, 3)), "n#1": np.array([7, 8])}
    np.savez(path, x=np.arange(6).reshape(3, 2), n=np.array([4, 5, 6]), **more)
    found = read(path)
    assert [values(one)["n"] for one in found] == [[4], [5], [6], [7], [8]]
    assert values(found[1])["x"] == [[2, 3]]
    assert {(one.rows, one.expected) for one in found} == {(1, None)}
    assert [values(one)["n"] for one in read(path, rows=2)] == [[4, 5], [7, 8]]
    assert shapes(found)["shapes"] == [
        {"inputs": {"x": [1, 2], "n": [1]}, "requests": 3},
        {"inputs": {"x": [1, 3], "n": [1]}, "requests": 2},
    ]


@pytest.mark.parametrize(
    ("rows", "said"), [(1, []), (3, ["2 of 8 rows are not sent to m: they do not fill a request of --rows 3"])]
)
def test_rows_that_do_not_fill_a_last_request_are_counted(tmp_path: Path, rows: int, said: list[str]) -> None:
    path = tmp_path / "a.npz"
    more = {"x#1": np.zeros((3, 3)), "n#1": np.arange(3)}
    np.savez(path, x=np.zeros((5, 2)), n=np.arange(5), **more)
    told: list[str] = []
    assert sum(one.rows for one in read(path, rows=rows, say=told.append)) == (8 if rows == 1 else 6)
    assert told == [f"{path}: {text}" for text in said]


def test_a_line_is_a_request_of_as_many_rows_as_it_has(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"x": [[1, 2]], "n": [3]}, {"x": [[1], [2]], "n": [3, 4]})
    path.write_text(path.read_text() + "\n")
    assert [(one.rows, values(one)) for one in read(path)] == [
        (1, {"x": [[1, 2]], "n": [3]}),
        (2, {"x": [[1], [2]], "n": [3, 4]}),
    ]


def test_a_folder_has_a_request_in_each_file_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=np.ones((2, 2)), n=np.array([2, 2]))
    lines(tmp_path / "a.json", {"x": [[1]], "n": [1]})
    (tmp_path / "notes.txt").write_text("no request")
    assert [values(one)["n"] for one in read(tmp_path)] == [[1], [2, 2]]


def test_a_group_without_rows_is_one_request(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x": np.ones((2, 5)), "x#1": np.ones((2, 1))})
    assert [one.rows for one in read(tmp_path / "a.npz", ROWLESS)] == [1, 1]


def test_outputs_in_the_file_are_what_must_come_within_the_models_tolerance(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 2)), n=np.array([1, 2]), y=np.array([[10.0], [20.0]]))
    expected = [one.expected for one in read(tmp_path / "a.npz")]
    assert [(one.name, one.dtype, one.shape, one.values.tolist(), one.limits.tolist()) for (one,) in expected] == [
        ("y", "FP32", (1, 1), [[value]], [[0.5]]) for value in (10.0, 20.0)
    ]


def test_outputs_that_are_compared_as_vectors_keep_their_measure(tmp_path: Path) -> None:
    cosine = Tolerance(cosine=0.9)
    np.savez(tmp_path / "a.npz", x=np.ones((1, 2)), n=np.array([1]), y=np.array([[10.0]]))
    (expected,) = read(tmp_path / "a.npz", replace(SPEC, tolerance=cosine))[0].expected or ()
    assert expected.tolerance == cosine


GOOD = {"x": [[1, 2]], "n": [3]}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"x": [[1, 2]]}, "input 'n' is missing"),
        (GOOD | {"z": 1}, "tensor 'z' is none of ['n', 'x', 'y']"),
        (GOOD | {"x": [1, 2]}, "input 'x': shape [2], expected [-1, -1]"),
        (GOOD | {"x": [[1], [2, 3]]}, "input 'x': rows differ in length"),
        (GOOD | {"x": [["a"]]}, "input 'x': text or mixed elements, expected FP32"),
        (GOOD | {"x": [[None, 1]]}, "input 'x': text or mixed elements, expected FP32"),
        (GOOD | {"n": [1.5]}, "input 'n': FP64 elements, expected INT64"),
        (GOOD | {"n": [10**30]}, "input 'n': text or mixed elements, expected INT64"),
        (GOOD | {"n": [1, 2]}, "input 'n' has 2 rows, another has 1"),
        ({"x": [], "n": []}, "input 'x': shape [0], expected [-1, -1]"),
        (GOOD | {"y": [[1.0], [2.0]]}, "output 'y': shape [2, 1], expected [1, 1]"),
        (GOOD | {"y": [["a"]]}, "output 'y': not numbers"),
        (GOOD | {"y": [[1.0]]}, "every request has the model's outputs in the file, or none has"),
        ([1], "not an object of values by tensor name"),
    ],
)
def test_a_fault_is_named_with_file_line_and_tensor(tmp_path: Path, second: Any, said: str) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, second)
    with pytest.raises(SettingsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 2: {said}")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_a_line_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"a\.jsonl, line 1: not JSON"):
        read(path)


def test_an_output_without_the_others_is_named(tmp_path: Path) -> None:
    spec = replace(SPEC, outputs=(*SPEC.outputs, TensorSpec("z", "FP32", ("batch",))))
    with pytest.raises(SettingsError, match="line 1: output 'z' is missing, and others are there"):
        read(lines(tmp_path / "a.jsonl", GOOD | {"y": [[1]]}), spec)


LABELLED = replace(SPEC, outputs=(TensorSpec("y", "INT64", ("batch",)),))


def test_whole_numbers_in_the_file_must_come_exactly(tmp_path: Path) -> None:
    large = 2**53 + 1
    (expected,) = read(lines(tmp_path / "a.jsonl", GOOD | {"y": [large]}), LABELLED)[0].expected or ()
    assert expected.values.tolist() == [large]


@pytest.mark.parametrize("number", [1.5, 10**30])
def test_an_output_that_its_dtype_does_not_hold_is_named(tmp_path: Path, number: float) -> None:
    with pytest.raises(SettingsError, match="line 1: output 'y': not numbers of INT64"):
        read(lines(tmp_path / "a.jsonl", GOOD | {"y": [number]}), LABELLED)


def test_arrays_of_an_npz_that_do_not_fit_are_named_with_their_group(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones((2, 2)), n=np.array([1, 2, 3]))
    with pytest.raises(SettingsError, match=r"a\.npz: 'x' has 2 rows, 'n' has 3 rows"):
        read(path)
    np.savez(path, **{"x": np.ones((2, 2)), "n": np.ones(2, int), "x#1": np.ones((1, 2)), "n#1": np.ones(1, int)})
    with pytest.raises(SettingsError, match=r"a\.npz, group #1: .* at least --rows 2"):
        read(path, rows=2)
    np.savez(path, x=np.ones((3, 2)), n=np.array([1.5, 1.0, 1.0]))
    with pytest.raises(SettingsError, match=r"a\.npz, rows 0 to 0: input 'n': FP64 elements"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no archive"])
def test_what_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SettingsError, match=r"a\.npz: not an \.npz of arrays"):
        read(tmp_path / "a.npz")


def test_objects_in_an_npz_are_never_built(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}]), n=np.array([1]))
    with pytest.raises(SettingsError, match=r"not an \.npz of arrays \(Object arrays cannot be loaded"):
        read(tmp_path / "a.npz")


def test_a_file_of_another_kind_or_without_requests_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"a\.csv is not one of these: \.npz, \.jsonl"):
        read(tmp_path / "a.csv")
    with pytest.raises(SettingsError, match=r"a\.jsonl cannot be read \(No such file or directory\)"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(SettingsError, match=r"holds no \.npz or \.json file"):
        read(tmp_path)
    with pytest.raises(SettingsError, match=r"b\.jsonl holds no request"):
        read(lines(tmp_path / "b.jsonl"))


def test_requests_of_a_line_are_not_cut(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--rows 2: the requests of .*line 1 have the rows that they have"):
        read(lines(tmp_path / "a.jsonl", GOOD), rows=2)


def test_more_than_the_load_test_keeps_is_refused_as_soon_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_REQUESTS", 2)
    with pytest.raises(SettingsError, match="line 3: here are more than 2 requests"):
        read(lines(tmp_path / "a.jsonl", GOOD, GOOD, GOOD, "never read"))
    monkeypatch.setattr(replay, "MAX_BYTES", 20)
    with pytest.raises(SettingsError, match="line 1: here are more than"):
        read(lines(tmp_path / "a.jsonl", GOOD | {"x": [[1] * 99]}))
    np.savez(tmp_path / "a.npz", x=np.ones((1, 99)), n=np.array([1]))
    with pytest.raises(SettingsError, match=r"a\.npz: here are more than"):
        read(tmp_path / "a.npz")


def test_a_fingerprint_is_of_contents_and_in_a_folder_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    one = lines(folder / "a.json", GOOD)
    first, of_folder = fingerprint(one), fingerprint(folder)
    assert fingerprint(one.rename(folder / "b.json")) == first
    assert len({first, of_folder, fingerprint(folder)}) == 3
