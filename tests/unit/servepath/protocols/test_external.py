import struct

import pytest
from grpc import StatusCode

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import errors, oip
from servepath.protocols.external import BY_CODE, ExternalCodec, ExternalModel, engine_named
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import ModelInferRequest, ModelInferResponse, ServerMetadataResponse

SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", ("batch", 2)), TensorSpec("n", "INT64", ("batch",))),
    outputs=(TensorSpec("y", "FP32", ("batch", 1)), TensorSpec("h", "FP16", ("batch",))),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
MODEL = ExternalModel("theirs", "7", {"x": "input-0"}, {"y": "output-0"})
X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))
N = Tensor("n", "INT64", (1,), struct.pack("<q", -3))
Y = Tensor("y", "FP32", (1, 1), struct.pack("<f", 0.5))
H = Tensor("h", "FP16", (1,), b"\x00\x3c")


def codec(*, typed: bool = False) -> ExternalCodec:
    return ExternalCodec(ExternalModel(MODEL.name, MODEL.version, MODEL.inputs, MODEL.outputs, typed), SPEC)


def sent(request: Request, *, typed: bool = False) -> ModelInferRequest:
    return ModelInferRequest.FromString(codec(typed=typed).encode_request(request, "m", 3))


def answered(message: ModelInferResponse) -> Answer:
    return codec().decode_answer(message.SerializeToString(), "m", "theirs")


def reply(*outputs: tuple[str, str, tuple[int, ...]], **more: str) -> ModelInferResponse:
    message = ModelInferResponse(model_name="theirs", **more)
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    return message


def test_a_request_has_the_servers_names_and_version_and_no_parameters() -> None:
    message = sent(Request("m@theirs", 0, (X, N), ("y",), "id-1"))
    assert (message.model_name, message.model_version, message.id) == ("theirs", "7", "id-1")
    assert [tensor.name for tensor in message.inputs] == ["input-0", "n"]
    assert [output.name for output in message.outputs] == ["output-0"]
    assert list(message.raw_input_contents) == [X.data, N.data]
    assert not any(tensor.HasField("contents") for tensor in message.inputs)
    assert not message.parameters


def test_a_request_is_typed_for_a_server_that_reads_no_raw_contents() -> None:
    message = sent(Request("m@theirs", 0, (X, N)), typed=True)
    assert list(message.inputs[0].contents.fp32_contents) == [1, 2]
    assert list(message.inputs[1].contents.int64_contents) == [-3]
    assert not message.raw_input_contents


@pytest.mark.parametrize(
    ("dtype", "data", "field", "elements"),
    [
        ("BOOL", b"\x01\x00", "bool_contents", [True, False]),
        ("INT8", b"\xff\x01", "int_contents", [-1, 1]),
        ("BYTES", b"\x01\x00\x00\x00a\x00\x00\x00\x00", "bytes_contents", [b"a", b""]),
    ],
)
def test_typed_elements_are_in_the_field_of_their_dtype(
    dtype: str, data: bytes, field: str, elements: list[object]
) -> None:
    spec = Spec((TensorSpec("x", dtype, ("batch",)),), SPEC.outputs, row_independent=True, tolerance=SPEC.tolerance)
    request = Request("m", 0, (Tensor("x", dtype, (2,), data),))
    payload = ExternalCodec(ExternalModel("theirs", typed=True), spec).encode_request(request, "m", 0)
    (tensor,) = ModelInferRequest.FromString(payload).inputs
    assert list(getattr(tensor.contents, field)) == elements


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_a_request_with_an_input_that_has_no_typed_form_is_raw_for_every_server(dtype: str) -> None:
    inputs = (TensorSpec("x", dtype, ("batch",)), TensorSpec("n", "INT64", ("batch",)))
    spec = Spec(inputs, SPEC.outputs, row_independent=True, tolerance=SPEC.tolerance)
    request = Request("m", 0, (Tensor("x", dtype, (1,), b"\x00\x3c"), N))
    payload = ExternalCodec(ExternalModel("theirs", typed=True), spec).encode_request(request, "m", 0)
    message = ModelInferRequest.FromString(payload)
    assert list(message.raw_input_contents) == [b"\x00\x3c", N.data]
    assert not any(tensor.HasField("contents") for tensor in message.inputs)


def test_a_raw_reply_is_read_under_our_names() -> None:
    message = reply(("h", "FP16", (1,)), ("output-0", "FP32", (1, 1)))
    message.raw_output_contents.extend([H.data, Y.data])
    assert answered(message).outputs == (H, Y)


def test_a_typed_reply_and_one_that_is_both_are_read() -> None:
    message = reply(("output-0", "FP32", (1, 1)), ("h", "FP16", (1,)))
    message.outputs[0].contents.fp32_contents.append(0.5)
    message.raw_output_contents.append(H.data)
    assert answered(message).outputs == (Y, H)
    del message.outputs[1], message.raw_output_contents[:]
    assert answered(message).outputs == (Y,)


def test_outputs_that_the_model_does_not_have_are_left_out_unread() -> None:
    message = reply(("unwanted", "FP16", (1,)), ("output-0", "FP32", (1, 1)), ("y", "FP32", (1, 1)))
    # FP16 has no typed form: reading it would fail. "y" is what the server calls another output.
    message.outputs[0].contents.fp32_contents.append(0.25)
    message.outputs[1].contents.fp32_contents.append(0.5)
    message.outputs[2].contents.fp32_contents.append(0.75)
    assert answered(message).outputs == (Y,)


@pytest.mark.parametrize(
    ("version", "number"), [("", 0), ("3", 3), ("blue", 0), ("\u0663", 0), ("9" * 19, 0), ("-1", 0)]
)
def test_a_version_is_the_servers_number_or_none(version: str, number: int) -> None:
    assert answered(reply(model_version=version)).served == Provenance(
        "m", "theirs", "", "", number, "", sha256_observed=False
    )


def test_what_a_server_says_of_its_origin_is_kept_but_for_the_stacks_name() -> None:
    served = Provenance("m", "onnx", "onnxruntime", "1.0", 3, "ab" * 32, sha256_observed=True)
    payload = oip.encode_answer(Request("theirs", 0, ()), Answer((), served))
    assert codec().decode_answer(payload, "m", "theirs").served == served._replace(stack="theirs")


def test_the_precision_is_what_the_server_says_or_its_operator() -> None:
    message = reply()
    told = ExternalCodec(ExternalModel("theirs", precision="bf16"), SPEC)
    silent = ExternalCodec(ExternalModel("theirs"), SPEC)
    assert silent.decode_answer(message.SerializeToString(), "m", "theirs").served.precision == ""
    assert told.decode_answer(message.SerializeToString(), "m", "theirs").served.precision == "bf16"
    message.parameters["precision"].string_param = "tf32"
    assert told.decode_answer(message.SerializeToString(), "m", "theirs").served.precision == "tf32"


@pytest.mark.parametrize(("key", "said"), [("sha256", "main"), ("engine", "a\nb"), ("precision", "a\nb")])
def test_what_is_no_hash_or_no_name_is_not_passed_on(key: str, said: str) -> None:
    message = reply()
    message.parameters[key].string_param = said
    assert getattr(answered(message).served, key) == ""


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a"])
def test_bytes_that_are_no_reply_are_a_bad_reply(payload: bytes) -> None:
    with pytest.raises(errors.BackendBadReply):
        codec().decode_answer(payload, "m", "theirs")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ExternalModel("t", inputs={"z": "q"}), "inputs: the model has no 'z'; it has n, x"),
        (ExternalModel("t", outputs={"z": "q"}), "outputs: the model has no 'z'; it has h, y"),
        (ExternalModel("t", inputs={"x": "n"}), "inputs: two are called 'n'"),
    ],
)
def test_names_that_do_not_fit_the_model_are_refused(model: ExternalModel, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExternalCodec(model, SPEC)


def test_every_code_has_its_error_and_no_text_of_the_servers_passes() -> None:
    assert BY_CODE.keys() == set(StatusCode)
    for code in StatusCode:
        assert "secret" not in codec().translate(code, "secret /path").text


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (StatusCode.NOT_FOUND, "Model with name theirs does not exist.", errors.BackendMisconfigured),
        (StatusCode.INVALID_ARGUMENT, "Model theirs is not ready yet.", errors.ModelLoading),
        (StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'x'", errors.BadInput),
        (StatusCode.UNAVAILABLE, "Request for unknown model: 'm' version 1 is not at ready state", errors.ModelLoading),
        (StatusCode.UNAVAILABLE, "Exceeds maximum queue size", errors.Overloaded),
        (StatusCode.UNAVAILABLE, "Request timeout expired", errors.Overloaded),
        (StatusCode.UNAVAILABLE, "failed to connect", errors.BackendUnavailable),
        (StatusCode.INTERNAL, "Internal server error", errors.BackendBadReply),
        (StatusCode.UNIMPLEMENTED, "Method not found!", errors.BackendMisconfigured),
    ],
)
def test_what_the_known_servers_say_is_understood(
    code: StatusCode, details: str, kind: type[errors.ServeError]
) -> None:
    assert type(codec().translate(code, details)) is kind


@pytest.mark.parametrize(
    ("name", "version", "named"),
    [
        ("mlserver", "1.7.1", ("mlserver", "1.7.1")),
        ("", "", ("unknown", "version not reported")),
        ("triton", "", ("triton", "version not reported")),
        ("a\nb", "1" * 99, ("unknown", "1" * 64)),
    ],
)
def test_a_servers_metadata_name_its_engine(name: str, version: str, named: tuple[str, str]) -> None:
    assert engine_named(ServerMetadataResponse(name=name, version=version).SerializeToString()) == named


def test_bytes_that_are_no_metadata_name_none() -> None:
    assert engine_named(b"\xff") == ("unknown", "version not reported")
