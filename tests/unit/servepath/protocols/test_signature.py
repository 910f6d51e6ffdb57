import struct

import pytest

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.errors import BadInput
from servepath.protocols.signature import MAX_ELEMENTS, Signature
from servepath.protocols.tensors import pack
from servepath.protocols.types import Request, Tensor


def spec(*inputs: TensorSpec, outputs: tuple[str, ...] = ("y",)) -> Spec:
    return Spec(inputs, tuple(TensorSpec(name, "FP32", (-1, 1)) for name in outputs), True, Tolerance(0, 0))  # noqa: FBT003 - row_independent


X = TensorSpec("x", "FP32", (-1, 2))
ONE = Signature(spec(X, outputs=("y", "z")))
TWO = Signature(spec(X, TensorSpec("k", "INT64", (-1,))))
TEXT = Signature(spec(TensorSpec("s", "BYTES", (-1, 1))))
FLAGS = Signature(spec(TensorSpec("b", "BOOL", (-1, 2))))


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
    assert ONE.empty_outputs(("z",)) == (Tensor("z", "FP32", (0, 1), b""),)
    assert [tensor.name for tensor in ONE.empty_outputs(())] == ["y", "z"]


@pytest.mark.parametrize("shape", [(), (2,), (2, -1), (-1, -1)])
def test_a_spec_whose_first_dimension_alone_is_not_the_batch_axis_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the first dimension, and only the first"):
        Signature(spec(TensorSpec("x", "FP32", shape)))
