from typing import Any

import numpy as np
import pytest

from servepath.protocols.arrays import DTYPES, from_values, to_array
from servepath.protocols.errors import BadInput
from servepath.protocols.types import Tensor


def test_lists_become_the_declared_dtype_row_major_and_little_endian() -> None:
    assert from_values("x", "FP32", [[1, 2], [3, 4.5]]) == Tensor(
        "x", "FP32", (2, 2), np.array([1, 2, 3, 4.5], "<f4").tobytes()
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_numeric_dtype_survives_the_way_there_and_back(dtype: str) -> None:
    values = np.array([[0, 1], [1, 0]], DTYPES[dtype])

    back = to_array(from_values("x", dtype, values))

    assert back.tolist() == values.tolist()
    assert back.dtype == values.dtype


def test_strings_survive_the_way_there_and_back() -> None:
    back = to_array(from_values("s", "BYTES", [["a\0", "ü"], [b"", b"bc"]]))

    assert back.tolist() == [[b"a\0", "ü".encode()], [b"", b"bc"]]


def test_arrays_of_any_memory_order_are_sent_row_major() -> None:
    values = np.array([[1, 2], [3, 4]], ">f8", order="F")

    assert to_array(from_values("x", "FP32", values)).tolist() == [[1, 2], [3, 4]]


def test_no_rows_at_all_fit_every_dtype() -> None:
    assert from_values("x", "INT64", []).shape == (0,)
    assert from_values("x", "FP32", np.empty((0, 2))).shape == (0, 2)


def test_an_answer_may_be_written_to() -> None:
    array = to_array(from_values("x", "FP32", [1, 2]))
    array[0] = 7

    assert array.tolist() == [7, 2]


@pytest.mark.parametrize(
    ("dtype", "values", "reason", "text"),
    [
        ("FP32", [[1, 2], [3]], "BAD_INPUT.SHAPE", "input 'x': rows differ in length"),
        ("FP32", [["a", "b"]], "BAD_INPUT.DTYPE", "input 'x': text or mixed elements, expected FP32"),
        ("INT32", [1.5], "BAD_INPUT.DTYPE", "input 'x': FP64 elements, expected INT32"),
        ("INT8", [300], "BAD_INPUT.RANGE", "input 'x': an element does not fit INT8"),
        ("UINT8", [-1], "BAD_INPUT.RANGE", "input 'x': an element does not fit UINT8"),
        ("FP32", [1e300], "BAD_INPUT.RANGE", "input 'x': an element does not fit FP32"),
        ("BF16", [1.0], "BAD_INPUT.DTYPE", "input 'x': numpy has no BF16"),
        ("BYTES", [1], "BAD_INPUT.DTYPE", "input 'x': expected text, got int"),
        ("BYTES", ["caf\udce9"], "BAD_INPUT.RANGE", "input 'x': an element cannot be encoded as UTF-8"),
        ("BYTES", [["a"], ["\ud800"]], "BAD_INPUT.RANGE", "input 'x': an element cannot be encoded as UTF-8"),
    ],
)
def test_elements_that_would_be_changed_are_refused_by_name(dtype: str, values: Any, reason: str, text: str) -> None:
    with pytest.raises(BadInput) as refused:
        from_values("x", dtype, values)

    assert (refused.value.reason, refused.value.text) == (reason, text)


def test_nan_and_infinity_are_passed_on_as_they_are() -> None:
    values = [float("inf"), float("-inf")]

    assert to_array(from_values("x", "FP32", values)).tolist() == values
    assert np.isnan(to_array(from_values("x", "FP16", [float("nan")]))).all()


def test_bytes_that_are_not_what_the_shape_says_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot reshape"):
        to_array(Tensor("y", "FP32", (3,), bytes(8)))
