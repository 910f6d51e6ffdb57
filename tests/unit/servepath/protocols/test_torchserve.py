"""The TorchServe codec: what we send, what we accept, and what its refusals become."""

import contextlib
import json
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from servepath.protocols import errors, torchserve
from servepath.protocols.status import code_of
from servepath.protocols.types import Provenance, Request, Tensor
from servepath_pb.servepath.torchserve.torchserve_pb2 import PredictionResponse, PredictionsRequest

IDENTITY = {"engine": "torchserve", "engine_version": "0.12.0", "version": "3", "sha256": "ab12"}
X = Tensor("x", "FP32", (2, 2), np.float32([[1, 2], [3, 4]]).tobytes())


def reply(buffer: bytes) -> bytes:
    return PredictionResponse(prediction=buffer).SerializeToString()


def buffer(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def decode(payload: bytes) -> Any:
    return torchserve.decode_answer(payload, "m", "torchserve")


def test_a_request_carries_raw_bytes_by_input_name_and_no_version_for_the_default() -> None:
    sent = PredictionsRequest.FromString(torchserve.encode_request(Request("alias", 9, (X,)), "m", 0))
    assert (sent.model_name, sent.model_version, dict(sent.input)) == (
        "m",
        "",
        {"x": X.data, "#shapes": b'{"x": [2, 2]}'},
    )


def test_a_request_for_a_version_names_it() -> None:
    assert PredictionsRequest.FromString(torchserve.encode_request(Request("m", 0, (X,)), "m", 3)).model_version == "3"


def test_a_request_is_refused_from_the_first_byte_above_torchserves_limit() -> None:
    def payload(size: int) -> bytes:
        return torchserve.encode_request(Request("m", 0, (Tensor("x", "UINT8", (size,), bytes(size)),)), "m", 0)

    overhead = len(payload(6 * 10**6)) - 6 * 10**6
    assert len(payload(torchserve.MAX_REQUEST_BYTES - overhead)) == torchserve.MAX_REQUEST_BYTES
    with pytest.raises(errors.TooLarge):
        payload(torchserve.MAX_REQUEST_BYTES - overhead + 1)


def test_a_reply_becomes_tensors_and_who_answered() -> None:
    y = np.float32([[1.5], [-2]])
    answer = decode(reply(save({"y": y}, IDENTITY)))
    assert answer.outputs == (Tensor("y", "FP32", (2, 1), y.tobytes()),)
    assert answer.served == Provenance("m", "torchserve", "torchserve", "0.12.0", 3, "ab12", sha256_observed=True)


def test_every_dtype_that_safetensors_writes_keeps_its_bytes() -> None:
    kinds = {"BOOL": "?", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2"}
    kinds |= {"INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8"}
    arrays = {name: np.arange(6).reshape(2, 3).astype(kind) for name, kind in kinds.items()}
    outputs = {tensor.name: tensor for tensor in decode(reply(save(arrays, IDENTITY))).outputs}
    assert outputs == {name: Tensor(name, name, (2, 3), array.tobytes()) for name, array in arrays.items()}


def test_zero_rows_come_back_as_zero_rows() -> None:
    assert decode(reply(save({"y": np.zeros((0, 1), "f4")}, IDENTITY))).outputs == (Tensor("y", "FP32", (0, 1), b""),)


def test_a_refused_item_is_bad_input_with_the_handlers_text_and_reason() -> None:
    refusal = save({}, IDENTITY | {"error": "input 'x' is missing", "reason": "BAD_INPUT.NAME"})
    with pytest.raises(errors.BadInput) as caught:
        decode(reply(refusal))
    assert (caught.value.text, caught.value.reason) == ("input 'x' is missing", "BAD_INPUT.NAME")


WHOLE = {"__metadata__": IDENTITY, "y": entry()}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01",
        buffer(WHOLE, bytes(8))[:-1],
        buffer(WHOLE, bytes(9)),
        buffer([]),
        buffer({}),
        (2**63).to_bytes(8, "little"),
        (9).to_bytes(8, "little") + b"not  json",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        buffer({"__metadata__": "text"}),
        buffer({"__metadata__": IDENTITY | {"sha256": 1}}),
        buffer({"__metadata__": {**IDENTITY, "version": ""}}),
        buffer({"__metadata__": {**IDENTITY, "version": "-1"}}),
        buffer({"__metadata__": {**IDENTITY, "version": "9" * 5000}}),
        buffer({"__metadata__": {"version": "1"}}),
        buffer({"__metadata__": IDENTITY | {"error": "no reason"}}),
        buffer({"__metadata__": IDENTITY | {"error": "wrong kind", "reason": "INTERNAL"}}),
        buffer({"__metadata__": IDENTITY | {"error": "broken", "reason": "BAD_INPUT.a b"}}),
        buffer(WHOLE | {"y": entry(dtype="F99")}, bytes(8)),
        buffer(WHOLE | {"y": entry(dtype=["F32"])}, bytes(8)),
        buffer(WHOLE | {"y": entry(shape=[3])}, bytes(8)),
        buffer(WHOLE | {"y": entry(shape=[-2])}, bytes(8)),
        buffer(WHOLE | {"y": entry(shape=[True, 2])}, bytes(8)),
        buffer(WHOLE | {"y": entry(shape=2)}, bytes(8)),
        buffer(WHOLE | {"y": entry(data_offsets=[4, 12])}, bytes(12)),
        buffer(WHOLE | {"y": entry(data_offsets=[-8, 0])}, bytes(8)),
        buffer(WHOLE | {"y": entry(data_offsets=[0.0, 8.0])}, bytes(8)),
        buffer(WHOLE | {"y": entry(data_offsets=[0])}, bytes(8)),
        buffer(WHOLE | {"y": "F32"}, bytes(8)),
        buffer(WHOLE | {"z": entry()}, bytes(8)),
        buffer(WHOLE | {"\ud800": entry(shape=[0], data_offsets=[0, 0])}, bytes(8)),
    ],
)
def test_a_malformed_reply_is_a_bad_reply(bad: bytes) -> None:
    with pytest.raises(errors.BackendBadReply):
        decode(reply(bad))


KEYS = st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "y", "error", "reason", "version"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["F32", "BOOL"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)
HEADERS = st.dictionaries(st.sampled_from(["y", "z"]), JSON | st.builds(entry, shape=JSON, data_offsets=JSON)).map(
    lambda tensors: tensors | {"__metadata__": IDENTITY}
)


@given(st.binary() | st.binary().map(reply) | st.builds(buffer, JSON | HEADERS, st.binary(max_size=24)).map(reply))
@example(b"\xff")
def test_no_bytes_make_the_decoder_raise_anything_but_its_two_errors(payload: bytes) -> None:
    with contextlib.suppress(errors.BadInput, errors.BackendBadReply):
        decode(payload)


@given(st.integers(0, 200), st.integers(0, 7))
def test_no_flipped_bit_of_a_good_reply_makes_the_decoder_raise_anything_else(position: int, bit: int) -> None:
    good = bytearray(reply(save({"y": np.float32([[1.5], [-2]])}, IDENTITY)))
    good[position % len(good)] ^= 1 << bit
    with contextlib.suppress(errors.BadInput, errors.BackendBadReply):
        decode(bytes(good))


EXPECTED = {
    grpc.StatusCode.OK: "INTERNAL",
    grpc.StatusCode.CANCELLED: "UNAVAILABLE",
    grpc.StatusCode.UNKNOWN: "INTERNAL",
    grpc.StatusCode.INVALID_ARGUMENT: "INVALID_ARGUMENT",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.NOT_FOUND: "INTERNAL",
    grpc.StatusCode.ALREADY_EXISTS: "INTERNAL",
    grpc.StatusCode.PERMISSION_DENIED: "INTERNAL",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "RESOURCE_EXHAUSTED",
    grpc.StatusCode.FAILED_PRECONDITION: "INTERNAL",
    grpc.StatusCode.ABORTED: "INTERNAL",
    grpc.StatusCode.OUT_OF_RANGE: "INVALID_ARGUMENT",
    grpc.StatusCode.UNIMPLEMENTED: "INTERNAL",
    grpc.StatusCode.INTERNAL: "INTERNAL",
    grpc.StatusCode.UNAVAILABLE: "UNAVAILABLE",
    grpc.StatusCode.DATA_LOSS: "INTERNAL",
    grpc.StatusCode.UNAUTHENTICATED: "INTERNAL",
}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_becomes_one_of_ours_without_the_servers_text(code: grpc.StatusCode) -> None:
    error = torchserve.translate(code, "at /secret/path on host-17")
    assert code_of(error).name == EXPECTED[code]
    assert "secret" not in error.text


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        ("INTERNAL", 'Model "m" has no worker to serve inference request. Please use scale workers', errors.Overloaded),
        ("INTERNAL", "Worker died.\nInternalServerException", errors.BackendUnavailable),
        ("INTERNAL", "Out of resources", errors.Overloaded),
        ("INTERNAL", "Model not found: m\norg.pytorch.ModelNotFoundException", errors.BackendMisconfigured),
        ("INTERNAL", "Model version: 7 does not exist for model: m\norg.pytorch.X", errors.ModelLoading),
        ("INTERNAL", "Parameter model_name is required.", errors.BackendMisconfigured),
        ("UNAVAILABLE", "Prediction failed", errors.BackendBadReply),
        ("UNAVAILABLE", "Invalid model predict output", errors.BackendBadReply),
        ("UNAVAILABLE", "number of batch response mismatched", errors.BackendBadReply),
        ("UNAVAILABLE", "Unsupported model output data type.", errors.BackendBadReply),
        ("UNAVAILABLE", "failed to connect to all addresses", errors.BackendUnavailable),
        ("CANCELLED", "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))", errors.BackendUnavailable),
        ("RESOURCE_EXHAUSTED", "Worker died.", errors.Overloaded),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 6553500: 7000000", errors.TooLarge),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)", errors.TooLarge),
        ("PERMISSION_DENIED", "Token Authorization failed.", errors.BackendMisconfigured),
    ],
)
def test_texts_tell_apart_what_torchserve_gives_one_code(code: str, details: str, expected: type) -> None:
    assert type(torchserve.translate(grpc.StatusCode[code], details)) is expected
