from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from servepath.artifacts.spec import TensorSpec
from servepath.client import core
from servepath.client.core import Core, Exchange, Prediction, Rpc
from servepath.client.errors import PredictError
from servepath.protocols import arrays, servepath
from servepath.protocols.comparison import Verdict
from servepath.protocols.servepath import write_answer
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2 as pb

SERVED = Provenance("line", "onnx", "fake", "1.0", 3, "ab", sha256_observed=True, gateway_us=5, backend_us=70)


def gateway_answer(rpc: Rpc) -> bytes:
    """Answer as a gateway with one path would: the row sums of every input, tripled."""
    if rpc.method == servepath.LIST_PATHS:
        return list_paths({"line@onnx": ["x"], "pair@onnx": ["a", "b"]})
    request = servepath.decode_request(rpc.payload)
    sums = sum(3 * arrays.to_array(tensor).sum(axis=1, keepdims=True) for tensor in request.inputs)
    answer = Answer((arrays.from_values("y", "FP32", sums),), SERVED)
    return servepath.encode_answer(request, answer)


def list_paths(takes: dict[str, list[str]]) -> bytes:
    reply = pb.ListPathsResponse()
    for name, inputs in takes.items():
        model, stack = name.split("@")
        path = reply.paths.add(model=model, stack=stack, is_default=True)
        for tensor in inputs:
            path.inputs.add(name=tensor, dtype="FP32", shape=[-1, 2])
    return reply.SerializeToString()


def drive(exchange: Exchange[Prediction], calls: list[Rpc], answer: Callable[[Rpc], bytes]) -> Prediction:
    try:
        rpc = next(exchange)
        while True:
            calls.append(rpc)
            try:
                reply = answer(rpc)
            except PredictError as error:
                rpc = exchange.throw(error)
            else:
                rpc = exchange.send(reply)
    except StopIteration as end:
        return end.value


def predict(
    core: Core,
    model: str,
    inputs: object,
    calls: list[Rpc] | None = None,
    answer: Callable[[Rpc], bytes] = gateway_answer,
) -> Prediction:
    exchange = core.predict(model, inputs, version=0, outputs=(), request_id="")
    return drive(exchange, [] if calls is None else calls, answer)


def test_lists_go_in_and_arrays_come_out_with_who_made_them() -> None:
    prediction = predict(Core("host:1"), "line", [[1, 2], [3, 4]])

    assert prediction.output.tolist() == [[9], [21]]
    assert prediction.output.dtype == np.float32
    assert prediction.to_lists() == {"y": [[9], [21]]}
    assert prediction.served == SERVED


def test_arrays_of_another_float_are_converted_to_the_declared_one() -> None:
    assert predict(Core("host:1"), "line@onnx", np.array([[0.5, 1.5]])).output.tolist() == [[6]]


def test_several_inputs_are_given_as_a_dict() -> None:
    prediction = predict(Core("host:1"), "pair", {"a": [[1, 1]], "b": [[2, 2]]})

    assert prediction.output.tolist() == [[18]]


def test_what_the_models_take_is_asked_once() -> None:
    core, calls = Core("host:1"), []
    for _ in range(2):
        predict(core, "line", [[1, 2]], calls)
        predict(core, "pair@onnx", {"a": [[1, 1]], "b": [[2, 2]]}, calls)

    assert [rpc.method for rpc in calls] == [servepath.LIST_PATHS, *[servepath.METHOD] * 4]


class Changing:
    """A gateway whose only path takes FP32 until the test changes what it takes, and refuses all else."""

    def __init__(self) -> None:
        self.takes = pb.TensorSpec(name="x", dtype="FP32", shape=[-1, 2])

    def __call__(self, rpc: Rpc) -> bytes:
        if rpc.method == servepath.LIST_PATHS:
            path = pb.Path(model="line", stack="onnx", is_default=True, inputs=[self.takes])
            return pb.ListPathsResponse(paths=[path]).SerializeToString()
        (tensor,) = servepath.decode_request(rpc.payload).inputs
        if (tensor.name, tensor.dtype) != (self.takes.name, self.takes.dtype) or tensor.shape[1:] != (2,):
            raise PredictError("line: refused", grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT.DTYPE")
        return gateway_answer(rpc)


@pytest.mark.parametrize(
    "now", [pb.TensorSpec(name="x", dtype="FP64", shape=[-1, 2]), pb.TensorSpec(name="z", dtype="FP32", shape=[-1, 2])]
)
@pytest.mark.parametrize("by_name", [False, True])
def test_what_a_model_takes_is_asked_again_when_its_inputs_are_refused(now: pb.TensorSpec, by_name: bool) -> None:  # noqa: FBT001 - a parameter
    core, gateway, calls = Core("host:1"), Changing(), list[Rpc]()
    predict(core, "line", [[1, 2]], answer=gateway)
    gateway.takes = now
    for _ in range(2):
        inputs = {now.name: [[1, 2]]} if by_name else [[1, 2]]
        assert predict(core, "line", inputs, calls, gateway).output.tolist() == [[9]]
    methods = [rpc.method for rpc in calls]
    assert methods.count(servepath.LIST_PATHS) == 1
    assert methods[-1] == servepath.METHOD


def test_inputs_that_are_refused_by_what_the_model_takes_now_are_not_sent_again() -> None:
    core, gateway, calls = Core("host:1"), Changing(), list[Rpc]()
    predict(core, "line", [[1, 2]], answer=gateway)
    with pytest.raises(PredictError, match="line: refused"):
        predict(core, "line", [[1, 2, 3]], calls, gateway)
    assert [rpc.method for rpc in calls] == [servepath.METHOD, servepath.LIST_PATHS]


def test_another_refusal_asks_nothing_again() -> None:
    core, calls = Core("host:1"), list[Rpc]()
    predict(core, "line", [[1, 2]])

    def refuse(_: Rpc) -> bytes:
        raise PredictError("line: overloaded", grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")

    with pytest.raises(PredictError, match="line: overloaded"):
        predict(core, "line", [[1, 2]], calls, refuse)
    assert len(calls) == 1


def test_version_outputs_and_request_id_are_passed_on() -> None:
    exchange = Core("host:1").predict("line", [[1, 2]], version=7, outputs=["y"], request_id="r-1")
    next(exchange)
    request = servepath.decode_request(exchange.send(list_paths({"line@onnx": ["x"]})).payload)

    assert request == Request(
        "line", 7, (Tensor("x", "FP32", (1, 2), np.array([1, 2], "<f4").tobytes()),), ("y",), "r-1"
    )


@pytest.mark.parametrize(
    ("model", "inputs", "code", "text"),
    [
        (
            "lime",
            [[1, 2]],
            "NOT_FOUND",
            "lime: host:1 has no such model or path; known: line, line@onnx, pair, pair@onnx",
        ),
        ("pair", [[1, 2]], "INVALID_ARGUMENT", "pair: takes a, b: give a dict of them"),
        ("line", {"z": [[1]]}, "INVALID_ARGUMENT", "line: unexpected input 'z'; the model takes x"),
        ("line", [[1, 2], [3]], "INVALID_ARGUMENT", "line: input 'x': rows differ in length"),
        ("line", "one", "INVALID_ARGUMENT", "line: input 'x': text or mixed elements, expected FP32"),
        ("line", ["one", "two"], "INVALID_ARGUMENT", "line: takes no texts, but x"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(model: str, inputs: Any, code: str, text: str) -> None:
    with pytest.raises(PredictError) as refused:
        predict(Core("host:1"), model, inputs)

    assert (refused.value.code, str(refused.value)) == (grpc.StatusCode[code], text)


@pytest.mark.parametrize("method", [servepath.LIST_PATHS, servepath.METHOD])
def test_a_reply_that_cannot_be_read_is_a_named_error(method: str) -> None:
    def answer(rpc: Rpc) -> bytes:
        return b"\xff" if rpc.method == method else gateway_answer(rpc)

    with pytest.raises(PredictError, match=r"at host:1: the reply is not a servepath\.v1\.") as refused:
        predict(Core("host:1"), "line", [[1, 2]], answer=answer)

    assert refused.value.reason == "BACKEND_BAD_REPLY"


def test_the_only_output_is_not_guessed_among_several() -> None:
    prediction = Prediction({"y": np.zeros(1), "z": np.zeros(1)}, SERVED)

    with pytest.raises(ValueError, match="the model has the outputs y, z"):
        _ = prediction.output


def test_an_input_of_numbers_may_be_called_text() -> None:
    takes = (TensorSpec("text", "INT64", (-1, -1)),)
    assert core._meant({"text": [[1, 2]]}, takes, texts=False) == takes
    strings = (TensorSpec("text", "BYTES", (-1,)),)
    assert core._meant(["a"], strings, texts=False) == strings
    assert core._meant(["a"], (TensorSpec("ids", "INT64", (-1, -1)),), texts=True) == core.TEXTS


def test_a_comparison_is_asked_with_what_the_model_takes() -> None:
    gateway, methods = Changing(), list[str]()
    gateway.takes = pb.TensorSpec(name="z", dtype="FP64", shape=[-1, 2])

    def answer(rpc: Rpc) -> bytes:
        methods.append(rpc.method)
        if rpc.method != servepath.COMPARE:
            return gateway(rpc)
        (tensor,) = pb.CompareRequest.FromString(rpc.payload).inputs
        if tensor.dtype != "FP64":
            raise PredictError("line: refused", grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT.DTYPE")
        paths = [pb.ComparedPath(stack="onnx", verdict=pb.VERDICT_EQUAL, ulp=0)]
        write_answer(paths[0], Request("line", 0, ()), Answer((arrays.from_values("y", "FP32", [[9]]),), SERVED))
        return pb.CompareResponse(paths=paths, baseline="onnx", verdict=pb.VERDICT_EQUAL).SerializeToString()

    exchange: Any = Core("host:1").compare("line", [[1, 2]], version=0)
    found: Any = drive(exchange, [], answer)
    assert (found.baseline, found.verdict, found.paths[0].answer.output.tolist()) == ("onnx", Verdict.EQUAL, [[9]])
    assert methods == [servepath.LIST_PATHS, servepath.COMPARE]


def test_an_unusable_comparison_is_said_to_be_so() -> None:
    def answer(rpc: Rpc) -> bytes:
        return b"\xff" if rpc.method == servepath.COMPARE else gateway_answer(rpc)

    exchange: Any = Core("host:1").compare("line", [[1, 2]], version=0)
    with pytest.raises(PredictError, match=r"line at host:1: the reply is not a servepath\.v1\.CompareResponse"):
        drive(exchange, [], answer)


def test_what_the_models_take_is_known_as_a_whole_or_not_at_all() -> None:
    seen: list[list[str]] = []

    class Watched(Core):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_inputs" and value:
                seen.append(sorted(value))
            super().__setattr__(name, value)

    predict(Watched("host:1"), "line", [[1, 2]])
    assert seen == [["line", "line@onnx", "pair", "pair@onnx"]]
