"""What a comparison is, without sockets: tolerances of two paths, verdicts, bounds."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, cast

import numpy as np
import pytest

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import comparison, servepath
from servepath.protocols.arrays import from_values
from servepath.protocols.comparison import MAX_OUTPUT_BYTES, ComparedPath, Verdict
from servepath.protocols.errors import (
    BackendUnavailable,
    BadInput,
    DeadlineExceeded,
    DeadlineStage,
    Draining,
    Overloaded,
    ServeError,
)
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane.backend import Outcome
from services.dataplane.listener import ListenerLimits, RawCall
from services.gateway import compare
from services.gateway.answers import MAX_ELEMENTS
from services.gateway.compare import Compare, Said, comparison_of
from services.gateway.routes import Path, Routes
from services.gateway.tolerances import together
from tests.limits import LONG_S
from tests.manifests import SPEC

SERVED = Provenance("m", "onnx", "fake", "1", 1, "ab" * 32, sha256_observed=True)
EQUAL, DIFFERENT, FAILED = Verdict.EQUAL, Verdict.DIFFERENT, Verdict.FAILED
DOWN = BackendUnavailable("gone")


def answer(values: object, dtype: str = "FP32", name: str = "y") -> Answer:
    return Answer((from_values(name, dtype, values),), SERVED)


def second(known: Outcome, own: Outcome, spec: Spec = SPEC, known_spec: Spec = SPEC) -> ComparedPath[Answer]:
    return comparison_of([Said("onnx", known_spec, known), Said("other", spec, own)]).paths[1]


def having(tolerance: Tolerance) -> Spec:
    return replace(SPEC, tolerance=tolerance)


def test_two_answers_may_be_apart_by_the_tolerances_of_both_paths() -> None:
    loose = having(Tolerance(0.0, 0.5))
    assert second(answer([[1.0]]), answer([[1.5]]), loose).verdict == EQUAL
    assert second(answer([[1.0]]), answer([[1.5]]), SPEC, loose).verdict == EQUAL
    assert second(answer([[1.0]]), answer([[1.6]]), loose).verdict == DIFFERENT
    assert second(answer([[1.0]]), answer([[2.0]]), loose, loose).verdict == EQUAL
    assert second(answer([[1.0]]), answer([[1.5]])).verdict == DIFFERENT


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Tolerance(0.1, 0.2), Tolerance(0.3, 0.4), Tolerance(0.4, 0.6000000000000001)),
        (Tolerance(top_k=1), Tolerance(top_k=3), Tolerance(top_k=3)),
        (Tolerance(top_k=2), Tolerance(0.1, 0.1), Tolerance(top_k=2)),
        (Tolerance(0.1, 0.1), Tolerance(cosine=0.9), Tolerance(cosine=0.9)),
        (Tolerance(cosine=0.9), Tolerance(top_k=1), Tolerance(cosine=0.9)),
    ],
)
def test_tolerances_add_up(one: Tolerance, other: Tolerance, both: Tolerance) -> None:
    assert together(one, other) == both


def test_angles_of_cosines_add_up() -> None:
    angle = math.acos(0.99)
    assert together(Tolerance(cosine=0.99), Tolerance(cosine=0.99)).cosine == pytest.approx(math.cos(2 * angle))
    assert together(Tolerance(cosine=1e-9), Tolerance(cosine=1e-9)).cosine == pytest.approx(-1)


def test_numbers_without_fractions_and_texts_are_equal_or_not() -> None:
    spec = Spec(SPEC.inputs, (TensorSpec("y", "INT64", ("batch",)),), True, Tolerance(1.0, 1.0))  # noqa: FBT003 - row_independent
    found = second(answer([3], "INT64"), answer([4], "INT64"), spec, spec)
    assert (found.verdict, found.difference, found.ulp) == (DIFFERENT, 1.0, None)
    found = second(answer([b"pay"], "BYTES", "label"), answer([b"leave"], "BYTES", "label"))
    assert (found.verdict, found.difference) == (DIFFERENT, 0.0)
    assert found.detail == "output 'label' is [b'leave'], onnx says [b'pay']"


def test_nan_is_equal_to_nan_alone() -> None:
    assert second(answer([[np.nan]]), answer([[np.nan]])).verdict == EQUAL
    found = second(answer([[np.nan]]), answer([[1.0]]))
    assert (found.verdict, found.difference, found.ulp) == (DIFFERENT, math.inf, None)
    assert second(answer([[1.0]]), answer([[np.nan]])).verdict == DIFFERENT


def test_every_output_counts_for_the_difference() -> None:
    spec = Spec(SPEC.inputs, tuple(TensorSpec(n, "FP32", ("batch",)) for n in "ab"), True, SPEC.tolerance)  # noqa: FBT003
    known, own = (
        Answer((from_values("a", "FP32", [a]), from_values("b", "FP32", [b])), SERVED) for a, b in ((1, 1), (2, 4))
    )
    found = second(known, own, spec, spec)
    assert (found.difference, found.ulp) == (3.0, 2**24)
    assert found.detail.startswith("output 'a' is [2], onnx says [1]: 1 apart, ")
    own = own._replace(outputs=(own.outputs[0], from_values("b", "FP32", [np.nan])))
    found = second(known, own, spec, spec)
    assert (found.difference, found.ulp) == (math.inf, None)


def test_another_shape_is_different() -> None:
    found = second(answer([[1.0]]), answer([1.0]))
    assert (found.verdict, found.difference, found.ulp) == (DIFFERENT, math.inf, None)
    assert found.detail == "output 'y' is FP32 [1], expected FP32 [1, 1]"


@pytest.mark.parametrize(
    ("outcomes", "baseline", "verdict"),
    [
        ([1, 1, 1], "a", EQUAL),
        ([1, 2, DOWN], "a", DIFFERENT),
        ([1, 1, DOWN], "a", FAILED),
        ([DOWN, 1, 1], "b", FAILED),
        ([DOWN, 1, 2], "b", DIFFERENT),
        ([DOWN, DOWN, DOWN], "", FAILED),
        ([1], "a", EQUAL),
    ],
)
def test_the_worst_verdict_is_that_of_all(outcomes: list[Any], baseline: str, verdict: Verdict) -> None:
    said = [
        Said(stack, SPEC, outcome if isinstance(outcome, ServeError) else answer([[float(outcome)]]))
        for stack, outcome in zip("abc", outcomes, strict=False)
    ]
    found = comparison_of(said)
    assert (found.baseline, found.verdict) == (baseline, verdict)


@dataclass
class NoArtifacts:
    """The contract of whatever answers."""

    spec: Spec = SPEC

    @property
    def current(self) -> "NoArtifacts":
        return self

    def find_served(self, _: int) -> None:
        return None


class Reloading:
    """What a Compare needs of a Reloader."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes


def reloading(*stacks: str) -> Any:
    """Return routes of one model, whose default is the first stack."""
    nothing: Any = None
    artifacts = cast("Any", NoArtifacts())
    paths = {("m", s): Path("m", s, nothing, artifacts, nothing, nothing, nothing, nothing, nothing) for s in stacks}
    names = {path.name: path for path in paths.values()}
    return Reloading(Routes(nothing, paths, {"m": paths["m", stacks[0]], **names}, {}, nothing))


class Dispatched:
    """A data plane that ends every call with what `outcomes` has for its name, or keeps it where that is None."""

    def __init__(self, outcomes: dict[str, Outcome | None]) -> None:
        self.outcomes = outcomes
        self.lists: list[list[RawCall]] = []
        self.cancelled: list[RawCall] = []

    def dispatch(self, raws: list[RawCall]) -> None:
        self.lists.append(raws)
        for raw in raws:
            request = servepath.decode_request(raw.payload)
            outcome = self.outcomes.get(request.model)
            raw.on_cancel(partial(self.cancelled.append, raw))
            if isinstance(outcome, ServeError):
                raw.fail(outcome)
            elif outcome is not None:
                raw.reply(servepath.encode_answer(request, outcome))


X = Tensor("x", "FP32", (1, 2), bytes(8))


async def compared(
    data_plane: Dispatched, model: str = "m", remaining_s: float | None = 60.0
) -> gateway_pb2.CompareResponse:
    message = gateway_pb2.CompareRequest.FromString(comparison.encode_request(Request(model, 0, (X,))))
    known = reloading(*(name.partition("@")[2] for name in data_plane.outcomes))
    return await Compare(known, data_plane.dispatch, ListenerLimits()).compare(message, remaining_s)


async def test_all_calls_leave_in_one_list_with_time_kept_to_answer() -> None:
    data_plane = Dispatched({"m@onnx": answer([[1.0]]), "m@other": DOWN})
    began = monotonic()
    await compared(data_plane, remaining_s=60)
    (calls,) = data_plane.lists
    assert [servepath.decode_request(call.payload).model for call in calls] == ["m@onnx", "m@other"]
    kept_s = 60 - compare.MAX_RESERVE_S
    assert all(began + kept_s <= call.deadline <= monotonic() + kept_s for call in calls)


async def test_the_calls_of_a_caller_who_left_are_cancelled() -> None:
    data_plane = Dispatched({"m@onnx": None, "m@other": None})
    asking = asyncio.create_task(compared(data_plane))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [data_plane.cancelled] == data_plane.lists


@pytest.mark.parametrize("first", [BadInput("x is wrong", "SHAPE"), Draining()])
async def test_what_every_path_refuses_is_refused(first: ServeError) -> None:
    with pytest.raises(type(first)) as refused:
        await compared(Dispatched({"m@onnx": first, "m@other": BadInput("so is this")}))
    assert refused.value is first


async def test_paths_that_all_fail_are_entries() -> None:
    late = DeadlineExceeded(DeadlineStage.IN_QUEUE)
    found = await compared(Dispatched({"m@onnx": BadInput("wrong for this one"), "m@other": late}))
    assert [path.error.code_name for path in found.paths] == ["INVALID_ARGUMENT", "DEADLINE_EXCEEDED"]
    assert (found.baseline, found.verdict) == ("", gateway_pb2.VERDICT_FAILED)


async def test_an_answer_of_too_many_elements_is_not_compared() -> None:
    large = answer(np.zeros((MAX_ELEMENTS + 1, 1), np.float32))
    found = await compared(Dispatched({"m@onnx": large, "m@other": answer([[1.0]])}))
    assert (found.paths[0].error.reason, found.baseline) == ("TOO_LARGE", "other")
    assert found.paths[0].error.text == "the answer has 262145 elements; at most 262144 are compared"


async def test_outputs_are_left_out_where_they_are_too_many_bytes() -> None:
    large = answer(np.zeros((MAX_ELEMENTS, 1), np.float32))
    found = await compared(Dispatched({f"m@{stack}": large for stack in "abc"}))
    assert [(len(path.outputs), path.verdict) for path in found.paths] == [(0, gateway_pb2.VERDICT_EQUAL)] * 3
    assert found.ByteSize() < MAX_OUTPUT_BYTES
    assert comparison.decode_answer(found.SerializeToString()).paths[0].answer == Answer(
        (), SERVED._replace(stack="onnx")
    )


async def test_an_unknown_model_reaches_no_path() -> None:
    data_plane = Dispatched({"m@onnx": answer([[1.0]])})
    for name in ("n", "m@nowhere", "no name"):
        with pytest.raises(ServeError):
            await compared(data_plane, name)
    assert data_plane.lists == []


async def test_a_refused_comparison_leaves_room_for_others() -> None:
    data_plane = Dispatched({"m@onnx": BadInput("x is wrong")})
    tried = Compare(reloading("onnx"), data_plane.dispatch, ListenerLimits())
    message = gateway_pb2.CompareRequest.FromString(comparison.encode_request(Request("m", 0, (X,))))
    for _ in range(2 * compare.MAX_AT_ONCE):
        with pytest.raises(BadInput):
            await tried.compare(message, None)


def test_a_reply_that_is_none_is_said_to_be_so() -> None:
    for payload in (b"\xff", gateway_pb2.CompareResponse().SerializeToString()):
        with pytest.raises(ServeError, match=r"the reply is not a servepath\.v1\.CompareResponse"):
            comparison.decode_answer(payload)


def test_an_error_is_told_as_predict_tells_it() -> None:
    told = comparison.failure(Overloaded("full"))
    assert told == (8, "RESOURCE_EXHAUSTED", "OVERLOADED", "full")


async def test_a_comparison_counts_until_its_thread_has_ended_even_if_the_caller_leaves() -> None:
    tried = Compare(reloading("onnx"), Dispatched({"m@onnx": answer([[1.0]])}).dispatch, ListenerLimits())
    message = gateway_pb2.CompareRequest.FromString(comparison.encode_request(Request("m", 0, (X,))))
    loop, executor = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        gate.wait(LONG_S)

    holding = loop.run_in_executor(None, hold)
    asking = [asyncio.create_task(tried.compare(message, None)) for _ in range(compare.MAX_AT_ONCE)]
    async with asyncio.timeout(LONG_S):
        # White box: all of them wait for the only thread.
        while not held.is_set() or executor._work_queue.qsize() < len(asking):  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.005)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    with pytest.raises(Overloaded):
        await tried.compare(message, None)
    gate.set()
    await holding
    async with asyncio.timeout(LONG_S):
        while tried._under_way:  # noqa: ASYNC110 - nobody else waits for it
            await asyncio.sleep(0.005)
    assert (await tried.compare(message, None)).verdict == gateway_pb2.VERDICT_EQUAL
