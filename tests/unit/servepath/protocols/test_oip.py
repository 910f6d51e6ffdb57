import struct
from collections.abc import Sequence
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from servepath.protocols import oip, tensors
from servepath.protocols.errors import BackendBadReply, BadInput, ServeError
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)

X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))
REQUEST = Request("simple_nn", 0, (X,))
SERVED = Provenance("simple_nn", "onnx", "onnxruntime", "1.0", 3, "ab" * 32, sha256_observed=True, precision="fp32")
DTYPES = (*tensors.ITEM_BYTES, "BYTES")
# Elements that a typed field of each dtype holds exactly.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "FP32": st.floats(width=32, allow_nan=False),
    "FP64": st.floats(allow_nan=False),
    "BYTES": st.binary(max_size=9),
    **{f"INT{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
names = st.text(max_size=8)
shapes = st.lists(st.integers(0, 2**62), max_size=MAX_RANK).map(tuple)
raw_tensors = st.builds(Tensor, names, st.sampled_from(DTYPES), shapes, st.binary(max_size=64))


def message(request: Request = REQUEST) -> ModelInferRequest:
    return ModelInferRequest.FromString(oip.encode_request(request, request.model, request.version))


def refused(changed: ModelInferRequest) -> BadInput:
    with pytest.raises(BadInput) as caught:
        oip.decode_request(changed.SerializeToString())
    return caught.value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_bad_input(payload: bytes) -> None:
    try:
        assert isinstance(oip.decode_request(payload), Request)
    except BadInput as error:
        assert error.reason.startswith("BAD_INPUT.")  # noqa: PT017 - either outcome is right


@given(st.data())
def test_a_valid_message_with_changed_bytes_is_a_request_or_bad_input(data: st.DataObject) -> None:
    payload = bytearray(oip.encode_request(REQUEST, "simple_nn", 7))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(oip.decode_request(bytes(payload)), Request)
    except BadInput as error:
        assert error.reason.startswith("BAD_INPUT.")  # noqa: PT017 - either outcome is right


@given(st.lists(raw_tensors, min_size=1, max_size=4), st.lists(names, max_size=4), st.integers(0, 2**63 - 1), names)
def test_a_request_comes_back_as_it_was_sent(
    inputs: list[Tensor], outputs: list[str], version: int, request_id: str
) -> None:
    request = Request("m@onnx", version, tuple(inputs), tuple(outputs), request_id)
    assert oip.decode_request(oip.encode_request(request, "m@onnx", version)) == request


@given(st.lists(raw_tensors, max_size=4), names)
def test_an_answer_comes_back_as_it_was_sent(outputs: list[Tensor], request_id: str) -> None:
    answer = Answer(tuple(outputs), SERVED._replace(gateway_us=5, backend_us=7))
    payload = oip.encode_answer(REQUEST._replace(request_id=request_id), answer)
    assert oip.decode_answer(payload, "simple_nn", "elsewhere") == answer
    assert ModelInferResponse.FromString(payload).id == request_id


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.binary(min_size=1, max_size=3)), min_size=3, max_size=30))
def test_whatever_a_server_has_replied_before_a_reply_is_read_as_protobuf_reads_it(
    replies: list[tuple[str, bytes]],
) -> None:
    for name, data in replies:
        answer = Answer((Tensor(name, "UINT8", (len(data),), data),), SERVED)
        assert oip.decode_answer(oip.encode_answer(REQUEST, answer), "simple_nn", "onnx") == answer


@pytest.mark.parametrize("dtype", list(VALUES))
@given(st.data())
def test_typed_elements_become_the_raw_bytes_that_unpack_to_them(dtype: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[dtype], min_size=1, max_size=8))
    contents = InferTensorContents(**{oip.CONTENTS[dtype]: values})
    typed = ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype=dtype, shape=[len(values)], contents=contents)
    (tensor,) = oip.decode_request(typed.SerializeToString()).inputs
    assert list(tensors.unpack(dtype, tensor.data)) == values


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype not in VALUES])
def test_sixteen_bit_floats_have_no_typed_form(dtype: str) -> None:
    typed = ModelInferRequest()
    typed.inputs.add(name="x", datatype=dtype, shape=[1]).contents.fp32_contents.append(1)
    assert refused(typed).reason == "BAD_INPUT.DTYPE"


@pytest.mark.parametrize(("dtype", "value"), [("INT8", 128), ("INT16", -32769), ("UINT8", 256), ("UINT16", 65536)])
def test_a_typed_element_outside_its_dtype_is_refused_and_not_cut(dtype: str, value: int) -> None:
    typed = ModelInferRequest()
    getattr(typed.inputs.add(name="x", datatype=dtype, shape=[1]).contents, oip.CONTENTS[dtype]).append(value)
    assert refused(typed).reason == "BAD_INPUT.RANGE"


def test_a_typed_field_that_is_not_the_dtypes_is_refused() -> None:
    typed = ModelInferRequest()
    typed.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp64_contents.append(1)
    assert refused(typed).text == "input 'x': fp64_contents given, FP32 needs fp32_contents"


def test_raw_and_typed_elements_together_are_refused() -> None:
    both = message()
    both.inputs[0].contents.fp32_contents.extend((1, 2))
    assert refused(both).reason == "BAD_INPUT.INPUTS"


@pytest.mark.parametrize("extra", [0, 2])
def test_raw_contents_for_more_or_fewer_inputs_are_refused(extra: int) -> None:
    uneven = message()
    uneven.inputs.add(name="z", datatype="FP32", shape=[1])
    uneven.raw_input_contents.extend([b"1234"] * extra)
    assert refused(uneven).reason == "BAD_INPUT.INPUTS"


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_more_tensors_than_any_model_has_are_refused_before_they_are_built(field: str) -> None:
    many = ModelInferRequest()
    for _ in range(MAX_TENSORS + 1):
        getattr(many, field).add()
    assert refused(many).text == f"more than {MAX_TENSORS} inputs or outputs"


def test_more_dimensions_than_any_model_has_are_refused() -> None:
    deep = message()
    deep.inputs[0].shape[:] = [1] * (MAX_RANK + 1)
    assert refused(deep).reason == "BAD_INPUT.SHAPE"


def test_an_id_is_limited() -> None:
    assert oip.decode_request(message(REQUEST._replace(request_id="i" * 128)).SerializeToString()).request_id
    assert refused(message(REQUEST._replace(request_id="i" * 129))).reason == "BAD_INPUT.ID"


@pytest.mark.parametrize("text", ["0", "00", "-1", "1.0", "latest", " 1", "1 ", "٣", "1" * 20, "0x1"])
def test_a_version_that_is_no_whole_number_above_zero_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a whole number above 0"):
        oip.parse_version(text)


@pytest.mark.parametrize(("text", "version"), [("", 0), ("1", 1), ("07", 7), (str(2**63 - 1), 2**63 - 1)])
def test_a_version_is_read(text: str, version: int) -> None:
    assert oip.parse_version(text) == version


def test_the_last_of_a_repeated_singular_field_wins() -> None:
    twice = oip.encode_request(REQUEST, "first", 1) + ModelInferRequest(model_name="last").SerializeToString()
    assert oip.decode_request(twice).model == "last"


def test_a_shape_may_come_packed_or_unpacked() -> None:
    unpacked = b"\x2a\x0d" + b"\x0a\x01x\x12\x04FP32\x18\x01\x18\x02"  # inputs { name, datatype, shape: 1, shape: 2 }
    payload = unpacked + ModelInferRequest(raw_input_contents=[X.data]).SerializeToString()
    assert oip.decode_request(payload).inputs == (X,)


@pytest.mark.parametrize("payload", [b"\x0a\x02\xff\xfe", b"\x0b" * 200, b"\x0a\xff\xff\xff\xff\x0f", b"\x00\x01"])
def test_what_protobuf_cannot_parse_is_bad_input(payload: bytes) -> None:
    with pytest.raises(BadInput, match=r"not an inference\.ModelInferRequest"):
        oip.decode_request(payload)


def test_a_reply_that_is_none_is_the_servers_fault() -> None:
    for payload in (b"\xff", ModelInferResponse(model_version="one").SerializeToString()):
        with pytest.raises(BackendBadReply):
            oip.decode_answer(payload, "m", "onnx")


def reply_of(*outputs: tuple[str, tuple[int, ...], list[float] | None], raw: Sequence[bytes] = ()) -> bytes:
    """Return a reply of FP32 outputs: name, shape and, where it is typed, its elements."""
    reply = ModelInferResponse(model_version="1", raw_output_contents=raw)
    for name, shape, typed in outputs:
        output = reply.outputs.add(name=name, datatype="FP32", shape=shape)
        if typed is not None:
            output.contents.fp32_contents.extend(typed)
    return reply.SerializeToString()


ONE, TWO = struct.pack("<f", 1), struct.pack("<2f", 2, 3)
READ_REPLIES = [
    (reply_of(("y", (1, 1), [1])), {"y": ONE}),
    # KServe leaves it to each model's author, output by output.
    (reply_of(("a", (1, 1), [1]), ("b", (1, 2), None), raw=[TWO]), {"a": ONE, "b": TWO}),
    (reply_of(("a", (1, 2), None), ("b", (1, 1), [1]), raw=[TWO]), {"a": TWO, "b": ONE}),
    (reply_of(("a", (1, 1), [1]), ("b", (1, 2), None), raw=[b"", TWO]), {"a": ONE, "b": TWO}),
    # Without rows an output may have neither form, or an empty one.
    (reply_of(("a", (0, 2), None), ("b", (1, 2), None), raw=[TWO]), {"a": b"", "b": TWO}),
    (reply_of(("a", (0, 2), []), ("b", (0, 1), None)), {"a": b"", "b": b""}),
    (reply_of(("a", (0, 2), None), ("b", (0, 1), None), raw=[b"", b""]), {"a": b"", "b": b""}),
]


@pytest.mark.parametrize(("reply", "contents"), READ_REPLIES)
def test_outputs_are_read_whether_they_are_raw_or_typed(reply: bytes, contents: dict[str, bytes]) -> None:
    answer = oip.decode_answer(reply, "m", "onnx")
    assert {tensor.name: tensor.data for tensor in answer.outputs} == contents


@pytest.mark.parametrize("dtype", list(VALUES))
@given(st.data())
def test_typed_outputs_become_the_raw_bytes_that_unpack_to_them(dtype: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[dtype], min_size=1, max_size=8))
    reply = ModelInferResponse()
    contents = InferTensorContents(**{oip.CONTENTS[dtype]: values})
    reply.outputs.add(name="y", datatype=dtype, shape=[len(values)], contents=contents)
    (tensor,) = oip.decode_answer(reply.SerializeToString(), "m", "onnx").outputs
    assert list(tensors.unpack(dtype, tensor.data)) == values


def typed_reply(dtype: str, **contents: Any) -> bytes:
    reply = ModelInferResponse()
    reply.outputs.add(name="y", datatype=dtype, shape=[1], contents=InferTensorContents(**contents))
    return reply.SerializeToString()


@pytest.mark.parametrize(
    "reply",
    [
        reply_of(("y", (1, 1), None)),
        reply_of(("a", (1, 1), None), ("b", (1, 1), None), raw=[ONE]),
        reply_of(("a", (1, 1), [1]), raw=[ONE, ONE]),
        typed_reply("INT8", int_contents=[128]),
        typed_reply("FP16", fp32_contents=[1]),
        typed_reply("FP32", fp64_contents=[1]),
    ],
)
def test_a_reply_whose_contents_do_not_fit_its_outputs_is_the_servers_fault(reply: bytes) -> None:
    with pytest.raises(BackendBadReply, match="the model server's reply"):
        oip.decode_answer(reply, "m", "onnx")


def test_a_server_that_does_not_name_itself_goes_by_the_stack_it_was_called_as() -> None:
    answer = oip.decode_answer(ModelInferResponse(model_version="2").SerializeToString(), "m", "onnx")
    assert answer.served == Provenance("m", "onnx", "", "", 2, "", sha256_observed=False)


@pytest.mark.parametrize("code", list(StatusCode))
def test_every_refusal_of_a_server_has_an_error_that_says_nothing_of_what_is_behind_us(code: StatusCode) -> None:
    error = oip.translate(code, "secret details")
    assert isinstance(error, ServeError)
    assert "secret" not in error.text


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (StatusCode.CANCELLED, "CANCELLED", "BACKEND_DOWN"),
        (StatusCode.UNKNOWN, "Stream removed", "BACKEND_DOWN"),
        (StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (9 vs. 4)", "TOO_LARGE"),
        (StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 4)", "TOO_LARGE"),
        (StatusCode.FAILED_PRECONDITION, "", "BAD_INPUT.CONTENT"),
    ],
)
def test_a_lost_call_and_a_message_above_a_limit_are_told_from_overload(
    code: StatusCode, details: str, reason: str
) -> None:
    assert oip.translate(code, details).reason == reason


@given(
    st.sampled_from(["", "id", "\u00e9" * 60]),
    st.lists(st.binary(max_size=300), max_size=3),
    st.tuples(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62)),
    st.sampled_from(["", "fp32"]),
)
def test_a_reply_written_in_parts_is_the_message_that_protobuf_would_build(
    request_id: str, data: list[bytes], times_us: tuple[int, int, int], precision: str
) -> None:
    tensors = tuple(Tensor(f"y{number}", "UINT8", (len(part),), part) for number, part in enumerate(data))
    served = Provenance("m", "onnx", "engine", "1.0", 7, "ab", True, precision, *times_us)  # noqa: FBT003 - sha256_observed
    message = ModelInferResponse.FromString(
        oip.encode_answer(Request("m@onnx", 0, (), request_id=request_id), Answer(tensors, served))
    )
    whole = ModelInferResponse(model_name="m@onnx", model_version="7", id=request_id)
    for tensor in tensors:
        whole.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=tensor.shape)
        whole.raw_output_contents.append(tensor.data)
    texts = {"stack": "onnx", "engine": "engine", "engine_version": "1.0", "sha256": "ab", "sha256_source": "observed"}
    texts |= {"precision": precision} if precision else {}
    for name, text in texts.items():
        whole.parameters[name].string_param = text
    if served.backend_us:
        for name, microseconds in zip(("gateway_us", "backend_us", "queue_us"), times_us, strict=True):
            whole.parameters[name].int64_param = microseconds
    assert message == whole


def test_a_reply_of_many_bytes_has_the_right_length() -> None:
    data = bytes(range(256)) * 1000
    served = Provenance("m", "onnx", "e", "1", 1, "ab", sha256_observed=True)
    answer = Answer((Tensor("y", "UINT8", (len(data),), data),), served)
    assert oip.decode_answer(oip.encode_answer(Request("m", 0, ()), answer), "m", "onnx").outputs == answer.outputs


def with_parameter(where: str, name: str, **value: Any) -> ModelInferRequest:
    """Return a request with a parameter of itself, its input or its output."""
    changed = message(REQUEST._replace(outputs=("y",)))
    holder: Any = {"the request": changed, "input 'x'": changed.inputs[0], "output 'y'": changed.outputs[0]}[where]
    for kind, given_value in value.items():
        setattr(holder.parameters[name], kind, given_value)
    return changed


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("output 'y'", "classification", {"int64_param": 3}),
        ("output 'y'", "shared_memory_region", {"string_param": "region"}),
        ("input 'x'", "shared_memory_region", {"string_param": "region"}),
        ("the request", "sequence_id", {"int64_param": 7}),
        ("the request", "sequence_id", {"string_param": "seven"}),
        ("the request", "sequence_id", {"uint64_param": 7}),
        ("the request", "sequence_start", {"bool_param": True}),
        ("the request", "sequence_end", {"bool_param": True}),
    ],
)
def test_a_parameter_that_changes_what_an_answer_means_is_refused_by_name(
    where: str, name: str, value: dict[str, Any]
) -> None:
    error = refused(with_parameter(where, name, **value))
    assert error.text.startswith(f"{where} has parameter {name!r}")
    assert error.reason == "BAD_INPUT.PARAMETERS"


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("the request", "priority", {"uint64_param": 1}),
        ("the request", "sequence_start", {"bool_param": False}),
        ("the request", "sequence_id", {"int64_param": 0}),
        ("the request", "triton_enable_empty_final_response", {"bool_param": True}),
        ("input 'x'", "content_type", {"string_param": "np"}),
        ("output 'y'", "binary_data", {"bool_param": True}),
        ("output 'y'", "classification", {"int64_param": 0}),
    ],
)
def test_a_hint_is_ignored(where: str, name: str, value: dict[str, Any]) -> None:
    payload = with_parameter(where, name, **value).SerializeToString()
    assert oip.decode_request(payload) == REQUEST._replace(outputs=("y",))


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_a_timeout_is_read_each_time(kind: str) -> None:
    payload = with_parameter("the request", "timeout", **{kind: 250_000}).SerializeToString()
    assert [oip.decode_request(payload).timeout_us for _ in range(4)] == [250_000] * 4


@pytest.mark.parametrize(
    "value", [{"int64_param": -1}, {"string_param": "1"}, {"double_param": 1.0}, {"bool_param": True}, {}]
)
def test_a_timeout_that_is_no_whole_number_is_refused(value: dict[str, Any]) -> None:
    changed = with_parameter("the request", "timeout", **value)
    changed.parameters["timeout"].SetInParent()
    assert refused(changed).reason == "BAD_INPUT.PARAMETERS"


def test_a_version_that_begins_with_a_letter_is_a_label() -> None:
    request = oip.decode_request(message(REQUEST._replace(version=0, version_label="canary")).SerializeToString())
    assert (request.version, request.version_label) == (0, "canary")
    with pytest.raises(BadInput, match="model version '-canary' is not a whole number above 0"):
        oip.decode_request(message(REQUEST._replace(version=0, version_label="-canary")).SerializeToString())


def test_a_label_is_known_again_with_the_beginning_of_its_message() -> None:
    payload = oip.encode_request(REQUEST._replace(version=0, version_label="canary", request_id=""), "m", 0)
    assert [oip.decode_request(payload).version_label for _ in range(4)] == ["canary"] * 4
