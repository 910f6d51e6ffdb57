"""Bad input through a real socket: the code and reason of each, and the next good call on the same connection."""

import struct
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import oip
from servepath.protocols.signature import MAX_ELEMENTS
from servepath.protocols.tensors import pack
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import ModelInferRequest
from tests.oip_client import Client, ask, y_of
from tests.tiny_onnx import linear, make_export, model_file

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
EXHAUSTED, UNIMPLEMENTED = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED
X = ask().inputs[0]
GOOD = oip.encode_request(ask(), "simple_nn", 0)


def x(**changes: object) -> bytes:
    return payload(X._replace(**changes))


def payload(*inputs: Tensor, model: str = "simple_nn", outputs: tuple[str, ...] = ()) -> bytes:
    return oip.encode_request(Request(model, 0, inputs, outputs), model, 0)


def named(name: str) -> bytes:
    return oip.encode_request(ask(), name, 0)


def changed(change: Callable[[ModelInferRequest], object]) -> bytes:
    message = ModelInferRequest.FromString(GOOD)
    change(message)
    return message.SerializeToString()


ROWS: list[tuple[str, bytes, grpc.StatusCode, str]] = [
    ("P01 random bytes", bytes(range(256)), INVALID, "BAD_INPUT.MESSAGE"),
    ("P01 flipped length", b"\x7f" + GOOD[1:], INVALID, "BAD_INPUT.MESSAGE"),
    ("P02 nested 10,000 deep", b"\x0b" * 10_000, INVALID, "BAD_INPUT.MESSAGE"),
    ("P03 wrong wire type", b"\x08\x01", INVALID, "BAD_INPUT.MODEL_NAME"),
    ("P03 field number 0", b"\x02\x01a", INVALID, "BAD_INPUT.MESSAGE"),
    ("P03 overlong varint", b"\x0a" + b"\xff" * 11, INVALID, "BAD_INPUT.MESSAGE"),
    ("P03 length 2^31-1", b"\x0a\xff\xff\xff\xff\x07", INVALID, "BAD_INPUT.MESSAGE"),
    ("P03 negative length", b"\x0a" + b"\xff" * 9 + b"\x01", INVALID, "BAD_INPUT.MESSAGE"),
    ("P04 100,000 empty inputs", b"\x2a\x00" * 100_000, INVALID, "BAD_INPUT.INPUTS"),
    ("P04 100,000 unknown fields", b"\xa0\x06\x01" * 100_000, INVALID, "BAD_INPUT.MODEL_NAME"),
    ("P05 invalid UTF-8", b"\x0a\x02\xff\xfe", INVALID, "BAD_INPUT.MESSAGE"),
    ("P08 empty message", b"", INVALID, "BAD_INPUT.MODEL_NAME"),
    ("T01 too few bytes", x(data=X.data[:4]), INVALID, "BAD_INPUT.BYTES"),
    ("T01 too many bytes", x(data=X.data * 2), INVALID, "BAD_INPUT.BYTES"),
    ("T02 negative rows", x(shape=(-1, 2)), INVALID, "BAD_INPUT.SHAPE"),
    ("T02 negative inner size", x(shape=(1, -2)), INVALID, "BAD_INPUT.SHAPE"),
    ("T03 zero inner size", x(shape=(1, 0), data=b""), INVALID, "BAD_INPUT.SHAPE"),
    ("T04 sizes that overflow", x(shape=(2**31, 2**31, 4)), INVALID, "BAD_INPUT.SHAPE"),
    ("T04 rows that overflow", x(shape=(2**62, 2)), INVALID, "BAD_INPUT.SHAPE"),
    ("T05 rank 0", x(shape=()), INVALID, "BAD_INPUT.SHAPE"),
    ("T05 rank 9", x(shape=(1,) * 9), INVALID, "BAD_INPUT.SHAPE"),
    ("T05 rank 1000", x(shape=(1,) * 1000), INVALID, "BAD_INPUT.SHAPE"),
    ("T06 more rows than fit", x(shape=(MAX_ELEMENTS // 2 + 1, 2)), INVALID, "BAD_INPUT.SHAPE"),
    ("T07 wrong dtype", x(dtype="FP64", data=bytes(16)), INVALID, "BAD_INPUT.DTYPE"),
    ("T07 unknown dtype", x(dtype="FP8"), INVALID, "BAD_INPUT.DTYPE"),
    ("T07 no dtype", x(dtype=""), INVALID, "BAD_INPUT.DTYPE"),
    ("T08 transposed", x(shape=(2, 1)), INVALID, "BAD_INPUT.SHAPE"),
    (
        "T10 raw and typed",
        changed(lambda m: m.inputs[0].contents.fp32_contents.extend((1, 2))),
        INVALID,
        "BAD_INPUT.INPUTS",
    ),
    ("T10 neither", changed(lambda m: m.ClearField("raw_input_contents")), INVALID, "BAD_INPUT.BYTES"),
    ("T11 no input", payload(), INVALID, "BAD_INPUT.INPUTS"),
    ("T11 extra input", payload(X, X._replace(name="z")), INVALID, "BAD_INPUT.INPUTS"),
    ("T11 duplicate input", payload(X, X), INVALID, "BAD_INPUT.INPUTS"),
    ("T11 unknown input", x(name="X"), INVALID, "BAD_INPUT.INPUTS"),
    ("T11 10,000 inputs", payload(*[X] * 10_000), INVALID, "BAD_INPUT.INPUTS"),
    ("T12 unknown output", payload(X, outputs=("q",)), INVALID, "BAD_INPUT.OUTPUTS"),
    ("T12 duplicate output", payload(X, outputs=("y", "y")), INVALID, "BAD_INPUT.OUTPUTS"),
    ("T12 10,000 outputs", payload(X, outputs=("y",) * 10_000), INVALID, "BAD_INPUT.INPUTS"),
    ("T13 part of an element", x(data=X.data[:7]), INVALID, "BAD_INPUT.BYTES"),
    (
        "T14 bad string length",
        payload(Tensor("s", "BYTES", (1,), b"\xff\xff\xff\xffa"), model="text"),
        INVALID,
        "BAD_INPUT.BYTES",
    ),
    (
        "T14 not UTF-8",
        payload(Tensor("s", "BYTES", (1,), pack("s", "BYTES", [b"\xff"])), model="text"),
        INVALID,
        "BAD_INPUT.CONTENT",
    ),
    (
        "T15 index out of range",
        payload(Tensor("k", "INT64", (1,), struct.pack("<q", 2**63 - 1)), model="lookup"),
        INVALID,
        "BAD_INPUT.CONTENT",
    ),
    ("T17 a bool of 2", payload(Tensor("b", "BOOL", (1,), b"\2"), model="flag"), INVALID, "BAD_INPUT.RANGE"),
    ("M01 empty name", named(""), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M01 space", named(" "), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M01 128 characters", named("n" * 128), NOT_FOUND, "MODEL_UNKNOWN"),
    ("M01 129 characters", named("n" * 129), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M01 1 MB", named("n" * 10**6), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M02 path", named("../simple_nn"), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M02 absolute path", named("/etc/passwd"), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M03 control characters", named("simple_nn\r\n\x1b[31m\0"), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M03 homoglyph", named("s\u0456mple_nn"), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M04 shell", named("$(id)"), INVALID, "BAD_INPUT.MODEL_NAME"),
    ("M05 address", named("http://169.254.169.254/"), INVALID, "BAD_INPUT.MODEL_NAME"),
    (
        "T13 an axis longer than the model can take",
        payload(Tensor("p", "FP32", (5,), bytes(20)), model="placed"),
        INVALID,
        "BAD_INPUT.CONTENT",
    ),
    ("M06 version 0", changed(lambda m: setattr(m, "model_version", "0")), INVALID, "BAD_INPUT.VERSION"),
    ("M06 version -1", changed(lambda m: setattr(m, "model_version", "-1")), INVALID, "BAD_INPUT.VERSION"),
    ("M06 version latest", changed(lambda m: setattr(m, "model_version", "latest")), INVALID, "BAD_INPUT.VERSION"),
    ("M06 version 2^63-1", changed(lambda m: setattr(m, "model_version", str(2**63 - 1))), NOT_FOUND, "MODEL_UNKNOWN"),
    ("M07 case variant", named("Simple_NN"), NOT_FOUND, "MODEL_UNKNOWN"),
    ("M07 trailing dot", named("simple_nn."), NOT_FOUND, "MODEL_UNKNOWN"),
    ("another stack", named("simple_nn@torchserve"), NOT_FOUND, "MODEL_UNKNOWN"),
]


def make_model(
    exports: Path, name: str, operator: str, takes: TensorSpec, gives: TensorSpec, *constants: onnx.TensorProto
) -> None:
    kinds = {
        "BYTES": TensorProto.STRING,
        "INT64": TensorProto.INT64,
        "BOOL": TensorProto.BOOL,
        "FP32": TensorProto.FLOAT,
    }
    values = [helper.make_tensor_value_info(t.name, kinds[t.dtype], ["batch"]) for t in (takes, gives)]
    node = helper.make_node(operator, [*(c.name for c in constants), takes.name], [gives.name])
    graph = helper.make_graph([node], name, values[:1], values[1:], list(constants))
    make_export(exports, name, content=model_file(graph), spec=Spec((takes,), (gives,), True, Tolerance(0, 0)))  # noqa: FBT003 - row_independent


def make_placed(exports: Path) -> None:
    """Make a model that adds a number to each element, and has three of them."""
    p, q = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("p", "q"))
    constants = [
        numpy_helper.from_array(np.zeros(3, np.float32), "places"),
        numpy_helper.from_array(np.zeros(1, int), "0"),
    ]
    nodes = [
        helper.make_node("Shape", ["p"], ["size"]),
        helper.make_node("Slice", ["places", "0", "size"], ["first"]),
        helper.make_node("Add", ["p", "first"], ["q"]),
    ]
    takes, gives = (TensorSpec(name, "FP32", (-1,)) for name in ("p", "q"))
    spec = Spec((takes,), (gives,), row_independent=False, tolerance=Tolerance(0, 0))
    make_export(
        exports, "placed", content=model_file(helper.make_graph(nodes, "placed", [p], [q], constants)), spec=spec
    )


@pytest.fixture(scope="module")
def shared_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The linear model, and others that take strings, indices and booleans."""
    exports = tmp_path_factory.mktemp("exports")
    make_export(exports, "simple_nn", content=linear(0))
    one = (-1,)
    make_model(exports, "text", "Identity", TensorSpec("s", "BYTES", one), TensorSpec("t", "BYTES", one))
    make_model(exports, "flag", "Not", TensorSpec("b", "BOOL", one), TensorSpec("n", "BOOL", one))
    table = numpy_helper.from_array(np.array([5, 6], np.float32), "table")
    make_placed(exports)
    make_model(exports, "lookup", "Gather", TensorSpec("k", "INT64", one), TensorSpec("v", "FP32", one), table)
    return exports


def still_answers(client: Client) -> bool:
    return y_of(oip.decode_answer(client.send(GOOD), "simple_nn", "")) == 5


@pytest.mark.parametrize(("sent", "code", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bad_input_is_refused_and_the_connection_goes_on(
    client: Client, sent: bytes, code: grpc.StatusCode, reason: str
) -> None:
    assert client.refused(sent) == (code, reason)
    assert still_answers(client)


def test_no_cut_message_is_answered_as_if_it_were_whole(client: Client) -> None:
    for length in range(len(GOOD)):
        code, reason = client.refused(GOOD[:length])
        assert (code, reason.partition(".")[0]) in {(INVALID, "BAD_INPUT"), (NOT_FOUND, "MODEL_UNKNOWN")}
    assert still_answers(client)


def test_a_flipped_byte_is_a_refusal_or_another_valid_request(client: Client) -> None:
    for position in range(len(GOOD)):
        flipped = bytearray(GOOD)
        flipped[position] ^= 0xFF
        try:
            answer = oip.decode_answer(client.send(bytes(flipped)), "simple_nn", "")
        except grpc.RpcError as error:
            assert error.code() in {INVALID, NOT_FOUND}  # noqa: PT017 - either outcome is right
        else:
            assert answer.outputs == client.infer(oip.decode_request(bytes(flipped))).outputs
    assert still_answers(client)


def test_the_refusal_says_what_is_wrong(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.send(x(shape=(1, 3)))
    assert caught.value.details() == "input 'x': shape [1, 3], expected [-1, 2]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -0.0, 1e-45, 3.4028235e38])
def test_every_float_is_computed_with_and_leaves_the_other_rows_alone(client: Client, value: float) -> None:
    rows = np.array([[1, 2], [value, 0], [3, 4]], "<f4")
    answer = client.infer(Request("simple_nn", 0, (Tensor("x", "FP32", (3, 2), rows.tobytes()),)))
    y = np.frombuffer(answer.outputs[0].data, "<f4")
    assert (y[0], y[2]) == (5, 11)
    np.testing.assert_array_equal(y[1], np.float32(value))


def test_strings_come_back_whole_with_nul_and_foreign_letters_inside(client: Client) -> None:
    data = pack("s", "BYTES", [b"a\0b", "\u00e9\u4e2d".encode(), b""])
    answer = client.infer(Request("text", 0, (Tensor("s", "BYTES", (3,), data),)))
    assert answer.outputs == (Tensor("t", "BYTES", (3,), data),)


def test_bools_and_indices_are_computed_with(client: Client) -> None:
    flags = client.infer(Request("flag", 0, (Tensor("b", "BOOL", (2,), b"\0\1"),)))
    assert flags.outputs == (Tensor("n", "BOOL", (2,), b"\1\0"),)
    found = client.infer(Request("lookup", 0, (Tensor("k", "INT64", (1,), struct.pack("<q", 1)),)))
    assert y_of(found) == 6


@pytest.mark.parametrize(("extra", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_message_is_taken_up_to_the_limit_and_not_a_byte_beyond(client: Client, extra: int, accepted: bool) -> None:  # noqa: FBT001 - a table
    rows = 2 * 2**20 // 8 - 20
    request = Request("simple_nn", 0, (Tensor("x", "FP32", (rows, 2), bytes(8 * rows)),), request_id="i")
    missing = 2 * 2**20 + extra - len(oip.encode_request(request, "simple_nn", 0))
    sent = oip.encode_request(request._replace(request_id="i" * (1 + missing)), "simple_nn", 0)
    assert len(sent) == 2 * 2**20 + extra
    if accepted:
        assert len(client.send(sent)) > 4 * rows
    else:
        assert client.refused(sent) == (EXHAUSTED, "")
    assert still_answers(client)


def test_a_compressed_message_is_not_inflated(client: Client) -> None:
    code, _ = client.refused(GOOD + bytes(1000), compression=grpc.Compression.Gzip)
    assert code is UNIMPLEMENTED
    assert still_answers(client)


def test_metadata_above_the_limit_is_refused(client: Client) -> None:
    code, _ = client.refused(GOOD, metadata=(("x-long", "x" * 64 * 2**10),))
    assert code is EXHAUSTED
    assert still_answers(client)


def test_metadata_of_any_kind_is_ignored(client: Client) -> None:
    metadata = (
        ("authorization", "Bearer x"),
        ("traceparent", "bad"),
        ("x-bin-bin", b"\0\xff"),
        ("x-a", "1"),
        ("x-a", "2"),
    )
    assert client.send(GOOD, metadata=metadata)
