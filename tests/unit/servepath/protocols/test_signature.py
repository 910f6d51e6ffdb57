import struct
from dataclasses import replace
from math import prod
from typing import Any

import pytest

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.errors import BackendBadReply, BadInput
from servepath.protocols.signature import MAX_ELEMENTS, Signature
from servepath.protocols.tensors import pack
from servepath.protocols.types import Request, Tensor


def spec(*inputs: TensorSpec, outputs: tuple[str, ...] = ("y",)) -> Spec:
    return Spec(inputs, tuple(TensorSpec(name, "FP32", ("batch", 1)) for name in outputs), True, Tolerance(0, 0))  # noqa: FBT003 - row_independent


X = TensorSpec("x", "FP32", ("batch", 2))
ONE = Signature(spec(X, outputs=("y", "z")))
TWO = Signature(spec(X, TensorSpec("k", "INT64", ("batch",))))
TEXT = Signature(spec(TensorSpec("s", "BYTES", ("batch", 1))))
FLAGS = Signature(spec(TensorSpec("b", "BOOL", ("batch", 2))))


def x(rows: int = 1, **changes: object) -> Tensor:
    return Tensor("x", "FP32", (rows, 2), bytes(8 * rows))._replace(**changes)


def request(*inputs: Tensor, outputs: tuple[str, ...] = ()) -> Request:
    return Request("m", 0, inputs, outputs)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_valid_request_gives_its_rows(rows: int) -> None:
    assert ONE.check(request(x(rows), outputs=("z",))) == rows


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ((), "INPUTS"),
        ((x(), x()), "INPUTS"),
        ((x(name="X"),), "INPUTS"),
        ((x(dtype="FP64"),), "DTYPE"),
        ((x(dtype="fp32"),), "DTYPE"),
        ((x(dtype=""),), "DTYPE"),
        ((x(shape=()),), "SHAPE"),
        ((x(shape=(2,)),), "SHAPE"),
        ((x(shape=(2, 1)),), "SHAPE"),
        ((x(shape=(1, 2, 1)),), "SHAPE"),
        ((x(shape=(1, 0), data=b""),), "SHAPE"),
        ((x(shape=(-1, 2)),), "SHAPE"),
        ((x(shape=(1, -2)),), "SHAPE"),
        ((x(shape=(2**31, 2**31, 4)),), "SHAPE"),
        ((x(shape=(2**62, 2)),), "SHAPE"),
        ((x(shape=(1,) * 1000),), "SHAPE"),
        ((x(shape=(MAX_ELEMENTS // 2 + 1, 2)),), "SHAPE"),
        ((x(shape=(MAX_ELEMENTS // 2, 2)),), "BYTES"),
        ((x(data=bytes(7)),), "BYTES"),
        ((x(data=bytes(9)),), "BYTES"),
        ((x(data=b""),), "BYTES"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_its_reason(inputs: tuple[Tensor, ...], reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        ONE.check(request(*inputs))
    assert caught.value.reason == f"BAD_INPUT.{reason}"


def test_the_text_says_which_input_is_wrong_and_what_is_expected() -> None:
    with pytest.raises(BadInput, match=r"^input 'x': shape \[1, 3\], expected \[-1, 2\]$"):
        ONE.check(request(x(shape=(1, 3))))


def test_inputs_may_come_in_any_order() -> None:
    k = Tensor("k", "INT64", (3,), bytes(24))
    assert TWO.check(request(k, x(3))) == TWO.check(request(x(3), k)) == 3


def test_inputs_with_different_rows_are_refused() -> None:
    with pytest.raises(BadInput, match="'x' has 2 rows, another has 3"):
        TWO.check(request(Tensor("k", "INT64", (3,), bytes(24)), x(2)))


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="given twice"):
        TWO.check(request(x(), x()))


@pytest.mark.parametrize("outputs", [("q",), ("y", "y"), ("",), ("y",) * 10_000])
def test_outputs_that_are_unknown_or_repeated_are_refused(outputs: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        ONE.check(request(x(), outputs=outputs))
    assert caught.value.reason == "BAD_INPUT.OUTPUTS"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0, 1e-45, 3.4028235e38])
def test_every_float_passes(value: float) -> None:
    assert ONE.check(request(x(data=struct.pack("<2f", value, value)))) == 1


def test_strings_pass_with_nul_bytes_inside() -> None:
    assert TEXT.check(request(Tensor("s", "BYTES", (2, 1), pack("s", "BYTES", [b"a\0b", b""])))) == 2


@pytest.mark.parametrize("data", [b"\x02\x00\x00\x00a", b"\x01\x00", pack("s", "BYTES", [b"a", b"b"])])
def test_strings_with_wrong_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        TEXT.check(request(Tensor("s", "BYTES", (1, 1), data)))
    assert caught.value.reason == "BAD_INPUT.BYTES"


def test_a_bool_is_zero_or_one() -> None:
    assert FLAGS.check(request(Tensor("b", "BOOL", (1, 2), b"\0\1"))) == 1
    with pytest.raises(BadInput, match="a BOOL is a byte 0 or 1"):
        FLAGS.check(request(Tensor("b", "BOOL", (1, 2), b"\1\2")))


@pytest.mark.parametrize("signature", [ONE, TWO, TEXT, FLAGS])
def test_the_zeros_of_a_probe_are_valid(signature: Signature) -> None:
    assert signature.check(request(*signature.zeros(3))) == 3


def test_empty_outputs_are_those_asked_for() -> None:
    empty = request(*ONE.zeros(0))
    assert ONE.empty_outputs(empty._replace(outputs=("z",))) == (Tensor("z", "FP32", (0, 1), b""),)
    assert [tensor.name for tensor in ONE.empty_outputs(empty)] == ["y", "z"]


# Words of a text model: two inputs whose axes have one name, an answer for each word and one for each text.
TEXTS = Signature(
    Spec(
        (TensorSpec("ids", "INT64", ("batch", "length")), TensorSpec("mask", "BOOL", ("batch", "length"))),
        (TensorSpec("words", "FP32", ("batch", "length", 2)), TensorSpec("found", "INT64", ("batch", "found_1"))),
        row_independent=True,
        tolerance=Tolerance(0, 0),
    )
)
# A state that the caller carries, and a scalar.
STATEFUL = Signature(
    Spec(
        (TensorSpec("state", "FP32", (2, "batch", 3)), TensorSpec("rate", "INT64", ())),
        (TensorSpec("next", "FP32", (2, "batch", 3)),),
        row_independent=False,
        tolerance=Tolerance(0, 0),
    )
)


def texts(rows: int, length: int, *, mask_length: int | None = None) -> Request:
    masked = length if mask_length is None else mask_length
    return request(
        Tensor("ids", "INT64", (rows, length), bytes(8 * rows * length)),
        Tensor("mask", "BOOL", (rows, masked), bytes(rows * masked)),
    )


def stateful(state: tuple[int, ...], rate: tuple[int, ...] = ()) -> Request:
    return request(
        Tensor("state", "FP32", state, bytes(4 * prod(state))), Tensor("rate", "INT64", rate, bytes(8 * prod(rate)))
    )


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 7), (0, 4), (2, 0)])
def test_open_axes_have_any_size_and_rows_are_the_batch_axis(rows: int, length: int) -> None:
    assert TEXTS.check(texts(rows, length)) == rows


def test_axes_of_one_name_have_one_size() -> None:
    with pytest.raises(BadInput, match="input 'mask' has 5 along 'length', another has 4") as caught:
        TEXTS.check(texts(2, 4, mask_length=5))
    assert caught.value.reason == "BAD_INPUT.SHAPE"


def test_an_open_axis_has_its_limit_of_elements() -> None:
    with pytest.raises(BadInput, match="33554432 elements, at most 33554431 fit one request"):
        Signature(TEXTS.spec, 2**25 - 1).check(
            request(Tensor("ids", "INT64", (2**20, 2**5), b""), texts(1, 1).inputs[1])
        )


def test_an_answer_may_have_any_size_along_an_open_axis_and_no_other_rows() -> None:
    words = Tensor("words", "FP32", (3, 7, 2), bytes(4 * 42))
    TEXTS.check_answer((words, Tensor("found", "INT64", (3, 0), b"")), 3, ())
    with pytest.raises(BackendBadReply, match="'words' of the model server's reply is not 2 rows of FP32"):
        TEXTS.check_answer((words,), 2, ("words",))


def test_an_empty_answer_has_the_sizes_that_its_request_has() -> None:
    assert [tensor.shape for tensor in TEXTS.empty_outputs(texts(0, 5))] == [(0, 5, 2), (0, 0)]


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_a_request_without_rows_is_one_row(rows: int) -> None:
    assert STATEFUL.check(stateful((2, rows, 3))) == 1
    STATEFUL.check_answer((Tensor("next", "FP32", (2, rows, 3), bytes(24 * rows)),), 1, ())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (stateful((3, 1, 3)), r"'state': shape \[3, 1, 3\], expected \[2, -1, 3\]"),
        (stateful((2, 3)), r"'state': shape \[2, 3\], expected \[2, -1, 3\]"),
        (stateful((2, 1, 3), (1,)), r"'rate': shape \[1\], expected \[\]"),
    ],
)
def test_a_fixed_axis_and_a_scalar_are_as_they_are(asked: Request, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        STATEFUL.check(asked)


@pytest.mark.parametrize("signature", [TEXTS, STATEFUL])
def test_zeros_fit_open_axes_and_scalars(signature: Signature) -> None:
    assert signature.check(request(*signature.zeros(1))) == 1


def test_a_spec_promises_independent_rows_only_where_there_are_rows() -> None:
    raw = {**STATEFUL.spec.to_dict(), "row_independent": True}
    with pytest.raises(ValueError, match="needs the batch axis as the first axis of every tensor"):
        Spec.from_dict(raw)


@pytest.mark.parametrize("axis", [-1, -2, 2.5, True, None])
def test_an_axis_is_a_size_or_a_name(axis: Any) -> None:
    with pytest.raises(ValueError, match="an axis is a size or a name"):
        TensorSpec.from_dict({"name": "x", "dtype": "FP32", "shape": [2, axis]})


def test_minus_one_in_the_first_place_is_the_batch_axis() -> None:
    assert TensorSpec.from_dict({"name": "x", "dtype": "FP32", "shape": [-1, 2]}).shape == ("batch", 2)


@pytest.mark.parametrize(
    ("rows", "length", "said"),
    [(2, 4, ""), (2, 5, "the request has 5 along 'length'; the model takes at most 4"), (3, 1, "has 3 rows; .* 2$")],
)
def test_an_open_axis_may_have_a_largest_size(rows: int, length: int, said: str) -> None:
    bounded = Signature(replace(TEXTS.spec, max_sizes={"length": 4, "batch": 2}))
    if not said:
        assert bounded.check(texts(rows, length)) == rows
        return
    with pytest.raises(BadInput, match=said) as caught:
        bounded.check(texts(rows, length))
    assert caught.value.reason == "BAD_INPUT.SHAPE"
