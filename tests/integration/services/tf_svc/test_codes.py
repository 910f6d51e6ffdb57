"""The table of codes and texts, and the answers, over a socket and with TensorFlow behind it."""

import json
import subprocess
import sys
from collections.abc import Callable

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.protocols import identity, tfserving
from servepath.protocols.tensors import pack
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from tests.limits import LONG_S
from tests.tf_server import TfServer, ask, tensor

FLOAT, BOOL = 1, 10
X = tensor(FLOAT, (1, 2), float_val=[1.0, 2.0])
ROWS_2_24 = tensor(FLOAT, (2**24, 2), float_val=[1.0])


def labelled() -> pb.PredictRequest:
    message = ask("linear", x=X)
    message.model_spec.version_label = "canary"
    return message


def signed(name: str) -> pb.PredictRequest:
    message = ask("linear", x=X)
    message.model_spec.signature_name = name
    return message


def filtered(*names: str) -> pb.PredictRequest:
    message = ask("linear", x=X)
    message.output_filter.extend(names)
    return message


NO_ALIAS = (
    "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value provided. "
    "Inputs expected to be in the request {z}, or default input alias set: "
)
REFUSED: list[tuple[str, pb.PredictRequest, str, str]] = [
    ("no spec", pb.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("no name", ask("", x=X), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("unknown model", ask("nope", x=X), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("unknown version", ask("linear", 9, x=X), "NOT_FOUND", "Servable not found for request: Specific(linear, 9)"),
    ("version 0", ask("linear", 0, x=X), "NOT_FOUND", "Servable not found for request: Specific(linear, 0)"),
    ("version -1", ask("linear", -1, x=X), "NOT_FOUND", "Servable not found for request: Specific(linear, -1)"),
    ("unknown label", labelled(), "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
    ("unknown signature", signed("s"), "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
    (
        "no input",
        ask("linear"),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    (
        "extra input",
        ask("linear", x=X, z=X),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    (
        "wrong input name",
        ask("linear", z=X),
        "INVALID_ARGUMENT",
        NO_ALIAS,
    ),
    (
        "unknown output",
        filtered("q"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    ),
    ("output twice", filtered("y", "y"), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    (
        "wrong dtype",
        ask("linear", x=tensor(BOOL, (1, 2), bool_val=[True, False])),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but bool is provided",
    ),
    (
        "wrong width",
        ask("linear", x=tensor(FLOAT, (1, 3), float_val=[1.0] * 3)),
        "INVALID_ARGUMENT",
        "input x has shape [1, 3], its signature says [-1, 2]",
    ),
    (
        "wrong rank",
        ask("linear", x=tensor(FLOAT, (2,), float_val=[1.0] * 2)),
        "INVALID_ARGUMENT",
        "input x has shape [2], its signature says [-1, 2]",
    ),
    ("graph refuses", ask("fussy", x=tensor(FLOAT, (1,), float_val=[-1.0])), "INVALID_ARGUMENT", "the graph rejected"),
    (
        "widths that differ",
        ask(
            "pair",
            left=tensor(FLOAT, (1, 2), float_val=[1.0] * 2),
            also=tensor(FLOAT, (1, 3), float_val=[1.0] * 3),
        ),
        "INVALID_ARGUMENT",
        "the graph rejected the tensors",
    ),
]
UNCOVERED: list[tuple[str, pb.TensorProto]] = [
    ("2^24 rows of one value", ROWS_2_24),
    ("2^33 rows of one value", tensor(FLOAT, (2**33, 2), float_val=[1.0])),
    ("too few values", tensor(FLOAT, (2, 2), float_val=[1.0] * 3)),
    ("too many values", tensor(FLOAT, (1, 2), float_val=[1.0] * 3)),
    ("no values", tensor(FLOAT, (1, 2))),
    ("short content", tensor(FLOAT, (1, 2), tensor_content=b"1234567")),
    ("long content", tensor(FLOAT, (1, 2), tensor_content=b"123456789")),
    ("negative sizes", tensor(FLOAT, (-1, -2), float_val=[1.0, 2.0])),
    ("sizes that overflow", tensor(FLOAT, (2**62, 2**62), float_val=[1.0])),
    ("zero rows of 2^62", tensor(FLOAT, (0, 2**62))),
    ("values of another field", tensor(FLOAT, (1, 2), int_val=[1, 2])),
    ("no dtype", tensor(0, (1, 2), float_val=[1.0, 2.0])),
    ("unknown dtype", tensor(99, (1, 2), float_val=[1.0, 2.0])),
    ("unknown rank", pb.TensorProto(dtype=1, float_val=[1.0], tensor_shape=pb.TensorShapeProto(unknown_rank=True))),
]


def refusal(function: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        function()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(("message", "code", "text"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_predict_refuses_with_the_code_and_text_of_the_table(
    server: TfServer, message: pb.PredictRequest, code: str, text: str
) -> None:
    found = refusal(lambda: server.predict(message))
    assert (found[0], found[1][: len(text)]) == (code, text)


@pytest.mark.parametrize("x", [row[1] for row in UNCOVERED], ids=[row[0] for row in UNCOVERED])
def test_a_tensor_that_its_bytes_do_not_cover_is_refused(server: TfServer, x: pb.TensorProto) -> None:
    assert refusal(lambda: server.predict(ask("linear", x=x))) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_refusing_claims_of_2_24_rows_takes_no_memory(server: TfServer) -> None:
    process = psutil.Process(server.process.pid)
    refusal(lambda: server.predict(ask("linear", x=ROWS_2_24)))
    before = process.memory_info().rss
    for _ in range(50):
        refusal(lambda: server.predict(ask("linear", x=ROWS_2_24)))
    assert process.memory_info().rss - before < 16 * 2**20


def test_bytes_that_are_no_request_end_as_in_the_real_server_and_leave_the_server_well(server: TfServer) -> None:
    call = server.channel.unary_unary(tfserving.METHOD)
    assert refusal(lambda: call(b"\xff\xff", timeout=LONG_S))[0] == "INTERNAL"
    assert list(server.predict(ask("linear", x=X)).outputs["y"].float_val) == [6.0]


def test_a_call_is_answered_in_typed_values_with_model_version_and_signature(server: TfServer) -> None:
    reply = server.predict(ask("linear", x=X))
    assert reply.outputs["y"] == tensor(FLOAT, (1, 1), float_val=[6.0])
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("linear", 1)
    assert reply.model_spec.signature_name == "serving_default"


def test_a_signature_asked_for_by_name_is_named_in_the_reply(server: TfServer) -> None:
    assert server.predict(signed("again")).model_spec.signature_name == "again"


def test_content_wins_where_a_request_has_both_forms(server: TfServer) -> None:
    x = tensor(FLOAT, (1, 2), float_val=[0.0, 0.0], tensor_content=pack("x", "FP32", [1.0, 2.0]))
    assert list(server.predict(ask("linear", x=x)).outputs["y"].float_val) == [6.0]


def test_zero_rows_are_answered_with_zero_rows(server: TfServer) -> None:
    reply = server.predict(ask("linear", x=tensor(FLOAT, (0, 2))))
    assert reply.outputs["y"] == tensor(FLOAT, (0, 1))


def test_inputs_and_outputs_keep_their_names_whatever_their_order(server: TfServer) -> None:
    left, also = tensor(FLOAT, (1, 1), float_val=[6.0]), tensor(FLOAT, (1, 1), float_val=[3.0])
    outputs = server.predict(ask("pair", left=left, also=also)).outputs
    assert {name: list(value.float_val) for name, value in outputs.items()} == {"quotient": [2.0], "doubled": [12.0]}


def test_row_counts_that_broadcast_are_computed_as_the_graph_does(server: TfServer) -> None:
    left, also = tensor(FLOAT, (1, 1), float_val=[6.0]), tensor(FLOAT, (3, 1), float_val=[1.0, 2.0, 3.0])
    assert list(server.predict(ask("pair", left=left, also=also)).outputs["quotient"].float_val) == [6.0, 3.0, 2.0]


def test_only_the_outputs_asked_for_are_answered(server: TfServer) -> None:
    message = ask("pair", left=tensor(FLOAT, (1, 1), float_val=[6.0]), also=tensor(FLOAT, (1, 1), float_val=[3.0]))
    message.output_filter.append("quotient")
    assert set(server.predict(message).outputs) == {"quotient"}


def test_every_dtype_comes_back_as_it_went(server: TfServer) -> None:
    values = {"FP16": b"\x00\x3c\xff\x7b", "BF16": b"\x80\x3f\x00\xc0", "BYTES": pack("", "BYTES", [b"", b"\xff\x00a"])}
    numbers = {dtype: [1, 100] for dtype in tfserving.DATA_TYPES} | {"BOOL": [0, 1], "FP64": [0.1, -1e300]}
    names = {"FP16": "float16", "BF16": "bfloat16", "FP32": "float32", "FP64": "float64", "BYTES": "string"}
    inputs = tuple(
        Tensor(names.get(dtype, dtype.lower()), dtype, (2,), values.get(dtype) or pack("", dtype, numbers[dtype]))
        for dtype in tfserving.DATA_TYPES
    )
    payload = tfserving.encode_request(Request("kinds", 0, inputs), "kinds", 1)
    reply, call = server.channel.unary_unary(tfserving.METHOD).with_call(payload, timeout=LONG_S)
    answer = tfserving.decode_answer(reply, "kinds", "tfserving")
    assert {t.name: t[1:] for t in answer.outputs} == {f"{t.name}_out": t[1:] for t in inputs}
    assert identity.named(call.trailing_metadata()) == ("embedded", "tensorflow 2.21.0", "fp32")


def test_a_refusal_names_the_engine_too(server: TfServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(ask("nope"))
    assert identity.named(caught.value.trailing_metadata()) == ("embedded", "tensorflow 2.21.0", "fp32")


def test_the_log_says_embedded_and_never_the_real_server(server: TfServer) -> None:
    assert "embedded (tensorflow 2.21.0)" in server.log
    assert "Serving" not in server.log
    assert "tensorflow_model_server" not in server.log


def test_metadata_packs_the_signatures_under_upstreams_type(server: TfServer) -> None:
    message = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="linear"), metadata_field=["signature_def"])
    reply = server.metadata(message)
    packed = reply.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert {name: (info.dtype, [d.size for d in info.tensor_shape.dim]) for name, info in signature.inputs.items()} == {
        "x": (FLOAT, [-1, 2])
    }
    assert set(signature.outputs) == {"y"}
    assert signature.method_name == "tensorflow/serving/predict"
    assert reply.model_spec.version.value == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (pb.GetModelMetadataRequest(), ("INVALID_ARGUMENT", "Missing ModelSpec")),
        (
            pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="linear")),
            ("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"),
        ),
        (
            pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="linear"), metadata_field=["weights"]),
            ("INVALID_ARGUMENT", "Metadata field weights is not supported"),
        ),
        (
            pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="nope"), metadata_field=["signature_def"]),
            ("NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ),
    ],
)
def test_metadata_refuses_with_the_code_and_text_of_the_table(
    server: TfServer, message: pb.GetModelMetadataRequest, expected: tuple[str, str]
) -> None:
    assert refusal(lambda: server.metadata(message)) == expected


def test_status_refuses_what_it_has_never_seen(server: TfServer) -> None:
    assert refusal(lambda: server.states("nope")) == ("NOT_FOUND", "Could not find any versions of model nope")
    message = pb.GetModelStatusRequest(model_spec=ask("linear", 9).model_spec)
    found = refusal(lambda: server.call(tfserving.STATUS_METHOD, message, pb.GetModelStatusResponse))
    assert found == ("NOT_FOUND", "Could not find version 9 of model linear")


@pytest.mark.parametrize("name", ["", "ModelService", "PredictionService"])
def test_the_standard_health_service_says_serving_as_the_real_one(server: TfServer, name: str) -> None:
    reply = health_pb2_grpc.HealthStub(server.channel).Check(
        health_pb2.HealthCheckRequest(service=name), timeout=LONG_S
    )
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reloading_the_config_is_not_offered(server: TfServer) -> None:
    call = server.channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
    assert refusal(lambda: call(b"", timeout=LONG_S))[0] == "UNIMPLEMENTED"


@pytest.mark.slow
def test_upstreams_own_messages_read_what_we_write_and_write_what_we_read() -> None:
    typed = tensor(FLOAT, (2, 1), float_val=[1.5, -2.0])
    script = """
import json, sys
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.framework import tensor_util
given = json.load(sys.stdin)
read = [tensor_util.MakeNdarray(tensor_pb2.TensorProto.FromString(bytes.fromhex(text))).tolist() for text in given]
pairs = ([1, 2], "int8"), ([0.5, 1.5], "float16"), ([True, False], "bool"), (["a", "bc"], "string")
made = [tensor_util.make_tensor_proto(value, dtype=dtype).SerializeToString().hex() for value, dtype in pairs]
print(json.dumps([read, made]))
"""
    content = pb.PredictRequest.FromString(
        tfserving.encode_request(Request("m", 0, (Tensor("x", "INT64", (2,), pack("", "INT64", [-1, 2**40])),)), "m", 0)
    ).inputs["x"]
    given = json.dumps([item.SerializeToString().hex() for item in (typed, content)])
    done = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, text=True, check=True)
    read, made = json.loads(done.stdout)
    assert read == [[[1.5], [-2.0]], [-1, 2**40]]
    response = pb.PredictResponse(model_spec=ask("m", 1).model_spec)
    for name, text in zip("abcd", made, strict=True):
        response.outputs[name].ParseFromString(bytes.fromhex(text))
    outputs = tfserving.decode_answer(response.SerializeToString(), "m", "tfserving").outputs
    assert [(t.dtype, t.data) for t in outputs] == [
        ("INT8", b"\x01\x02"),
        ("FP16", b"\x00\x38\x00\x3e"),
        ("BOOL", b"\x01\x00"),
        ("BYTES", pack("", "BYTES", [b"a", b"bc"])),
    ]
