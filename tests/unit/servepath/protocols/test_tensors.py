from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servepath.protocols.errors import BadInput
from servepath.protocols.tensors import ITEM_BYTES, TYPE_CODES, pack, row_offsets, split_strings, unpack
from servepath.protocols.types import Tensor

dtypes = st.sampled_from((*ITEM_BYTES, "BYTES"))


@given(st.lists(st.lists(st.binary(max_size=5), min_size=3, max_size=3), max_size=6))
def test_strings_are_cut_between_rows_and_nowhere_else(rows: list[list[bytes]]) -> None:
    packed = [pack("s", "BYTES", row) for row in rows]
    data = b"".join(packed)
    offsets = row_offsets(Tensor("s", "BYTES", (len(rows), 3), data))
    assert [data[begin:end] for begin, end in pairwise(offsets)] == packed


@given(st.sampled_from(list(ITEM_BYTES)), st.integers(0, 5), st.lists(st.integers(0, 3), max_size=3))
def test_numbers_are_cut_into_rows_of_equal_size(dtype: str, rows: int, inner: list[int]) -> None:
    row_bytes = ITEM_BYTES[dtype]
    for size in inner:
        row_bytes *= size
    offsets = row_offsets(Tensor("t", dtype, (rows, *inner), bytes(rows * row_bytes)))
    assert list(offsets) == [row * row_bytes for row in range(rows + 1)]


@given(dtypes, st.lists(st.integers(0, 4), max_size=3), st.binary(max_size=40))
def test_any_tensor_is_cut_from_its_first_byte_to_its_last_or_refused(
    dtype: str, shape: list[int], data: bytes
) -> None:
    try:
        offsets = list(row_offsets(Tensor("t", dtype, tuple(shape), data)))
    except ValueError:
        return
    assert offsets == sorted(offsets)
    assert (offsets[0], offsets[-1], len(offsets)) == (0, len(data), shape[0] + 1)


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        ("FP32", (1, 2), bytes(7)),
        ("FP32", (1, 2), bytes(9)),
        ("FP32", (), bytes(4)),
        ("BYTES", (2,), pack("s", "BYTES", [b"one"])),
        ("BYTES", (1,), b"\x00\x00\x00"),
        ("BYTES", (1,), b"\xff\xff\xff\xffx"),
    ],
)
def test_data_that_is_not_what_the_shape_says_is_not_cut(dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        row_offsets(Tensor("t", dtype, shape, data))


@given(st.lists(st.binary(max_size=9)))
def test_strings_come_back_as_they_were_packed(values: list[bytes]) -> None:
    assert split_strings(pack("s", "BYTES", values)) == values


@pytest.mark.parametrize("dtype", list(TYPE_CODES))
def test_a_typed_element_takes_as_many_bytes_as_the_table_says(dtype: str) -> None:
    data = pack("t", dtype, [1])
    assert len(data) == ITEM_BYTES[dtype]
    assert list(unpack(dtype, data)) == [1]


@pytest.mark.parametrize(("dtype", "value"), [("INT8", 128), ("UINT64", -1), ("INT64", 2**63), ("FP32", "1")])
def test_an_element_that_does_not_fit_its_dtype_is_bad_input(dtype: str, value: object) -> None:
    with pytest.raises(BadInput, match=f"does not fit {dtype}"):
        pack("t", dtype, [value])
