import contextlib
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servepath.protocols import errors, tfserving
from servepath.protocols.tensors import ITEM_BYTES, pack
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb

NUMERIC = sorted(ITEM_BYTES)
TYPED_VALUES = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [1, 65535],
    "UINT32": [1, 2**32 - 1],
    "UINT64": [1, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-32768, 7],
    "INT32": [-(2**31), 5],
    "INT64": [-(2**63), 2**63 - 1],
    "FP32": [0.5, -1.25],
    "FP64": [0.1, -1e300],
    "BYTES": [b"", b"\xff\x00two"],
}


def reply(model: str = "m", version: int = 3, **tensors: pb.TensorProto) -> bytes:
    message = pb.PredictResponse()
    message.model_spec.name = model
    message.model_spec.version.value = version
    for name, tensor in tensors.items():
        message.outputs[name].CopyFrom(tensor)
    return message.SerializeToString()


def proto(dtype: str | int, shape: tuple[int, ...], **fields: Any) -> pb.TensorProto:
    message = pb.TensorProto(dtype=tfserving.DATA_TYPES[dtype] if isinstance(dtype, str) else dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def decoded(tensor: pb.TensorProto) -> Tensor:
    return tfserving.decode_answer(reply(y=tensor), "m", "tfserving").outputs[0]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from([*NUMERIC, "BYTES"]))
    shape = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    count = 1
    for size in shape:
        count *= size
    if dtype == "BYTES":
        data = pack("t", dtype, draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count)))
    else:
        data = draw(st.binary(min_size=count * ITEM_BYTES[dtype], max_size=count * ITEM_BYTES[dtype]))
    return Tensor("y", dtype, shape, data)


@given(tensors())
def test_a_tensor_of_any_dtype_survives_the_request_form_and_the_reply_form(tensor: Tensor) -> None:
    request = pb.PredictRequest.FromString(tfserving.encode_request(Request("m", 0, (tensor,)), "m", 0))
    assert decoded(request.inputs["y"]) == tensor


@pytest.mark.parametrize("dtype", sorted(TYPED_VALUES))
def test_typed_values_of_a_reply_become_raw_bytes(dtype: str) -> None:
    values = TYPED_VALUES[dtype]
    tensor = proto(dtype, (2, 1), **{tfserving.FIELDS[dtype]: values})
    assert decoded(tensor) == Tensor("y", dtype, (2, 1), pack("y", dtype, values))


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_half_values_of_a_reply_are_taken_as_the_bits_of_their_elements(dtype: str) -> None:
    assert decoded(proto(dtype, (2,), half_val=[0x3C00, 0xFFFF])).data == b"\x00\x3c\xff\xff"


def test_a_single_typed_value_stands_for_every_element() -> None:
    assert decoded(proto("FP32", (3, 1), float_val=[2.0])).data == pack("y", "FP32", [2.0] * 3)


def test_content_wins_where_a_reply_has_both_forms() -> None:
    assert decoded(proto("FP32", (1,), tensor_content=b"\0\0\0\0", float_val=[9.0])).data == b"\0\0\0\0"


@pytest.mark.parametrize(
    "tensor",
    [
        proto("FP32", (2,), float_val=[1.0, 2.0, 3.0]),
        proto("FP32", (3,), float_val=[1.0, 2.0]),
        proto("FP32", (2,)),
        proto("FP32", (2**25,), float_val=[1.0]),
        proto("BYTES", (3,), string_val=[b"a"]),
        proto("FP32", (2,), tensor_content=b"1234567"),
        proto("FP32", (-1, -1), float_val=[1.0]),
        proto("FP32", (2**62,) * 9, float_val=[1.0]),
        proto("INT8", (1,), int_val=[300]),
        proto("FP16", (2,), half_val=[-1]),
        proto(8, (1,)),
        proto(0, (1,), float_val=[1.0]),
        pb.TensorProto(dtype=1, float_val=[1.0], tensor_shape=pb.TensorShapeProto(unknown_rank=True)),
    ],
    ids=lambda tensor: str(tensor).replace("\n", " ")[:60],
)
def test_a_reply_whose_tensor_is_not_what_it_says_is_a_bad_reply(tensor: pb.TensorProto) -> None:
    with pytest.raises(errors.BackendBadReply):
        decoded(tensor)


def test_a_reply_names_the_version_that_answered_and_claims_no_hash() -> None:
    served = tfserving.decode_answer(reply(version=7), "m", "tfserving").served
    assert (served.version, served.stack, served.sha256, served.sha256_observed) == (7, "tfserving", "", False)


def test_a_reply_of_another_model_or_of_no_version_is_a_bad_reply() -> None:
    for payload in (reply(model="other"), pb.PredictResponse(model_spec=pb.ModelSpec(name="m")).SerializeToString()):
        with pytest.raises(errors.BackendBadReply):
            tfserving.decode_answer(payload, "m", "tfserving")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_bad_reply(payload: bytes) -> None:
    with contextlib.suppress(errors.BackendBadReply):
        tfserving.decode_answer(payload, "m", "tfserving")


@given(st.binary(max_size=80))
def test_no_tensor_bytes_inside_a_good_reply_raise_anything_but_a_bad_reply(noise: bytes) -> None:
    size = len(noise).to_bytes(1, "little")
    entry = b"\x0a\x01y\x12" + size + noise
    payload = reply() + b"\x0a" + len(entry).to_bytes(1, "little") + entry
    with contextlib.suppress(errors.BackendBadReply):
        tfserving.decode_answer(payload, "m", "tfserving")


def test_a_request_carries_the_model_version_and_outputs_asked_for() -> None:
    x = Tensor("x", "FP32", (1, 2), pack("x", "FP32", [1.0, 2.0]))
    message = pb.PredictRequest.FromString(tfserving.encode_request(Request("?", 9, (x,), ("y",)), "m", 4))
    assert (message.model_spec.name, message.model_spec.version.value) == ("m", 4)
    assert list(message.output_filter) == ["y"]
    assert message.inputs["x"].tensor_content == x.data


def test_version_0_leaves_the_choice_to_the_server() -> None:
    message = pb.PredictRequest.FromString(tfserving.encode_request(Request("m", 0, ()), "m", 0))
    assert message.model_spec.WhichOneof("version_choice") is None


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor("x", "FP8", (1,), b"\0"), "BAD_INPUT.DTYPE"),
        (Tensor("x", "BYTES", (1,), b"\5\0\0\0ab"), "BAD_INPUT.BYTES"),
    ],
)
def test_a_tensor_that_tensorflow_cannot_hold_is_bad_input(tensor: Tensor, reason: str) -> None:
    with pytest.raises(errors.BadInput) as caught:
        tfserving.encode_request(Request("m", 0, (tensor,)), "m", 0)
    assert caught.value.reason == reason


def test_a_version_beyond_64_bits_is_unknown() -> None:
    with pytest.raises(errors.ModelNotFound):
        tfserving.encode_request(Request("m", 2**63, ()), "m", 2**63)


BY_CODE = {
    "OK": "BACKEND_BAD_REPLY",
    "CANCELLED": "BACKEND_DOWN",
    "UNKNOWN": "BACKEND_BAD_REPLY",
    "INVALID_ARGUMENT": "BAD_INPUT.CONTENT",
    "DEADLINE_EXCEEDED": "EXPIRED_IN_BACKEND",
    "NOT_FOUND": "MODEL_LOADING",
    "ALREADY_EXISTS": "BACKEND_BAD_REPLY",
    "PERMISSION_DENIED": "BACKEND_MISCONFIGURED",
    "RESOURCE_EXHAUSTED": "OVERLOADED",
    "FAILED_PRECONDITION": "BACKEND_BAD_REPLY",
    "ABORTED": "BACKEND_DOWN",
    "OUT_OF_RANGE": "BAD_INPUT.CONTENT",
    "UNIMPLEMENTED": "BACKEND_MISCONFIGURED",
    "INTERNAL": "BACKEND_BAD_REPLY",
    "UNAVAILABLE": "BACKEND_DOWN",
    "DATA_LOSS": "BACKEND_BAD_REPLY",
    "UNAUTHENTICATED": "BACKEND_MISCONFIGURED",
}
BY_TEXT = [
    ("UNKNOWN", "Stream removed", "BACKEND_DOWN"),
    ("INVALID_ARGUMENT", "Missing ModelSpec", "BACKEND_MISCONFIGURED"),
    ("INVALID_ARGUMENT", "Unrecognized servable version label: L", "BACKEND_MISCONFIGURED"),
    ("INVALID_ARGUMENT", "input size does not match signature: 2!=1 len({x,z})", "BAD_INPUT.INPUTS"),
    ("INVALID_ARGUMENT", "Signature input alias: x(feed name: f) not found in request", "BAD_INPUT.INPUTS"),
    ("INVALID_ARGUMENT", "output tensor alias not found in signature: q", "BAD_INPUT.OUTPUTS"),
    ("INVALID_ARGUMENT", "duplicate output tensor alias: y", "BAD_INPUT.OUTPUTS"),
    ("INVALID_ARGUMENT", "tensor parsing error: x", "BAD_INPUT.BYTES"),
    ("INVALID_ARGUMENT", "{{node f}} Expects arg[0] to be float but bool is provided", "BAD_INPUT.DTYPE"),
    ("INVALID_ARGUMENT", "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]", "BAD_INPUT.CONTENT"),
    ("INVALID_ARGUMENT", "Task size 99 is larger than maximum input batch size 64", "BAD_INPUT.SHAPE"),
    ("INVALID_ARGUMENT", "input tensors must have at least one dimension", "BAD_INPUT.SHAPE"),
    ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", "OVERLOADED"),
    ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", "OVERLOADED"),
    ("RESOURCE_EXHAUSTED", "Batch timeout exceeded while waiting", "EXPIRED_IN_BACKEND"),
    ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 4)", "TOO_LARGE"),
    ("RESOURCE_EXHAUSTED", "Stream removed (CLIENT: Received message larger than max (9 vs. 4))", "TOO_LARGE"),
    ("FAILED_PRECONDITION", "from different tasks have different shapes and padding is off", "BATCH_SPOILED"),
    ("FAILED_PRECONDITION", 'Serving signature key "s" not found.', "BACKEND_MISCONFIGURED"),
    ("INTERNAL", "Tensor concat operation failed: types differ", "BATCH_SPOILED"),
    ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full", "OVERLOADED"),
    ("UNAVAILABLE", "Model labels does not init yet.", "MODEL_LOADING"),
]


def test_every_grpc_code_has_its_error() -> None:
    found = {code.name: tfserving.translate(code, "node /job:x").reason for code in grpc.StatusCode}
    assert found == BY_CODE


@pytest.mark.parametrize(("code", "details", "reason"), BY_TEXT)
def test_the_text_of_a_refusal_decides_where_its_code_says_too_little(code: str, details: str, reason: str) -> None:
    error = tfserving.translate(grpc.StatusCode[code], details)
    assert error.reason == reason
    assert details not in error.text
