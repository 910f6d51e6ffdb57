"""A share of the calls is repeated on another path once answered, compared and counted; no caller notices."""

import asyncio
import logging
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.deployments import Deployment, PathLimits, Shadow
from servepath.protocols.errors import (
    BackendUnavailable,
    Cancelled,
    DeadlineExceeded,
    DeadlineStage,
    Draining,
    ModelLoading,
)
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from services.dataplane.backend import Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.gateway.answers import MAX_ELEMENTS
from services.gateway.shadow import MAX_BYTES, MAX_LOOKS, MIN_DEADLINE_S, SMALL, ComparedPath, Repeater, ShadowPolicy
from services.gateway.tolerances import between
from services.gateway.verdicts import PAUSE_S, Shadows, Verdicts
from tests.limits import LONG_S
from tests.manifests import SPEC
from tests.serving_fakes import Keeping, call

SHADOW = Shadow("other", 100.0, 2)
LONGEST_S = 15.0
EXPIRED = DeadlineExceeded(DeadlineStage.IN_BACKEND)
Y = Tensor("y", "FP32", (1, 1), struct.pack("<f", 3))


def answer(*values: float, stack: str = "first") -> Answer:
    data = struct.pack(f"<{len(values)}f", *values)
    served = Provenance("m", stack, "fake", "1", 1, "", sha256_observed=False)
    return Answer((Tensor("y", "FP32", (len(values), 1), data),), served)


class Queue:
    """Says how many calls wait, and whether they would leave as one."""

    queued, merges = 0, True


class Raising(Keeping):
    """Raises instead of ending calls."""

    def submit(self, call: Call) -> None:
        raise RuntimeError(call.request.model)


class Scoped(Keeping):
    """Notes whether each call came in an open scope."""

    scope = BatchScope()

    def __init__(self) -> None:
        super().__init__()
        self.open: list[bool] = []

    def submit(self, call: Call) -> None:
        self.open.append(self.scope.open)
        super().submit(call)


class Filling(Keeping):
    """Has room for one call; each further one waits."""

    queue = Queue()

    def submit(self, call: Call) -> None:
        self.queue.queued += bool(self.calls)
        super().submit(call)


class Noting(Verdicts):
    """Verdicts that say when there are two."""

    def __init__(self, model: str, shadow: Shadow) -> None:
        super().__init__(model, shadow)
        self.two = asyncio.Event()
        self.shared: list[bool] = []

    def record(self, verdict: str, difference: float = 0.0, said: str = "", *, shared: bool = False) -> None:
        super().record(verdict, difference, said, shared=shared)
        self.shared.append(shared)
        if sum(count.value for count in self.counts.values()) >= 2:
            self.two.set()


class Bench:
    """A shadow between two paths that keep their calls."""

    def __init__(
        self, shadow: Shadow = SHADOW, draw: float = 0.0, spec: Spec = SPEC, target: Keeping | None = None
    ) -> None:
        self.first, self.other = Keeping(), target or Keeping()
        self.queues = {"first": Queue(), "other": Queue(), "third": Queue()}
        self.verdicts = Noting("m", shadow)
        paths = {stack: ComparedPath(spec, queue) for stack, queue in self.queues.items()}
        self.scope = BatchScope()
        repeater = Repeater(self.other, paths, self.verdicts, LONGEST_S, batch_scope=self.scope, together_s=0.0)
        self.policy = ShadowPolicy(self.first, repeater, lambda: draw)

    async def answered(self, outcome: Outcome, primary: Call | None = None) -> Call:
        """Submit a call, end it with an outcome, and wait until it would have been repeated."""
        primary = primary or call()
        self.policy.submit(primary)
        primary.end(outcome)
        await turns()
        return primary

    @property
    def counts(self) -> Mapping[str, int]:
        return {verdict: count.value for verdict, count in self.verdicts.counts.items() if count.value}


async def turns() -> None:
    """Wait for the turns of the event loop after which a call is repeated, with nothing to wait for."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answered_call_is_repeated_as_its_caller_sent_it_and_found_equal() -> None:
    bench, primary = Bench(), call()
    asked = primary.request
    await bench.answered(answer(3), primary)
    (repeated,) = bench.other.calls
    assert repeated.request == asked._replace(model="m@other")
    assert bench.counts == {}
    repeated.end(answer(3.00001, stack="other"))
    assert bench.counts == {"equal": 1}
    assert bench.verdicts.difference == pytest.approx(1e-5, rel=0.1)
    assert bench.verdicts.said == ""


async def test_the_caller_has_the_reply_before_the_call_is_repeated() -> None:
    bench, primary, repeated_before_reply = Bench(), call(), list[int]()

    def reply(_: Outcome) -> None:
        asyncio.get_running_loop().call_soon(lambda: repeated_before_reply.append(len(bench.other.calls)))

    # As the data plane does: the first callback added is the last one called, and its reply leaves in the next turn.
    primary.add_done_callback(reply)
    await bench.answered(answer(3), primary)
    assert repeated_before_reply == [0]
    assert len(bench.other.calls) == 1


async def test_a_different_answer_is_said_without_anybodys_values() -> None:
    bench = Bench()
    await bench.answered(answer(3))
    bench.other.calls[0].end(answer(3.5, stack="other"))
    assert bench.counts == {"different": 1}
    assert bench.verdicts.difference == 0.5
    assert bench.verdicts.said == "output 'y' is 0.5 apart from that of m@first, beyond rtol 2e-05, atol 2e-05"


async def test_a_failed_and_a_late_answer_are_told_apart_and_one_of_a_closing_gateway_counts_for_nothing() -> None:
    bench = Bench(Shadow("other", 100.0, 9))
    for outcome in (BackendUnavailable("it is gone"), EXPIRED, Draining(), Cancelled()):
        await bench.answered(answer(3))
        bench.other.calls[-1].end(outcome)
    assert bench.counts == {"failed": 1, "late": 1}
    assert bench.verdicts.said == "it is gone"


@pytest.mark.parametrize(("version", "verdict"), [(2, "skipped"), (0, "failed")])
async def test_a_version_that_the_shadow_alone_has_not_loaded_says_nothing_about_its_answers(
    version: int, verdict: str
) -> None:
    bench, primary = Bench(), call()
    primary.request = primary.request._replace(version=version)
    await bench.answered(answer(3), primary)
    bench.other.calls[0].end(ModelLoading("not yet"))
    assert bench.counts == {verdict: 1}


async def test_a_call_that_nobody_answers_is_late_by_its_own_deadline() -> None:
    bench = Bench()
    primary = call()
    primary.deadline = monotonic() - 1
    await bench.answered(answer(3), primary)
    (repeated,) = bench.other.calls
    assert 0 < repeated.deadline - monotonic() <= MIN_DEADLINE_S
    ended = asyncio.Event()
    repeated.add_done_callback(lambda _: ended.set())
    async with asyncio.timeout(LONG_S):
        await ended.wait()
    assert bench.counts == {"late": 1}


async def test_a_repeated_call_has_what_its_caller_had_left_and_no_more_than_the_default() -> None:
    bench, before = Bench(), monotonic()
    for left_s in (5.0, 100.0):
        primary = call()
        primary.deadline = before + left_s
        await bench.answered(answer(3), primary)
    first, second = bench.other.calls
    assert first.deadline == pytest.approx(before + 5.0)
    assert before + LONGEST_S <= second.deadline < before + 100.0


async def test_nothing_is_repeated_that_failed_or_was_answered_by_the_shadows_own_path() -> None:
    bench = Bench()
    await bench.answered(BackendUnavailable("it is gone"))
    await bench.answered(Cancelled())
    await bench.answered(answer(3, stack="other"))
    assert (bench.other.calls, bench.counts) == ([], {})


async def test_a_repeated_call_is_not_repeated_again() -> None:
    bench = Bench()
    await bench.answered(answer(3))
    bench.other.calls[0].end(answer(3, stack="other"))
    await turns()
    assert len(bench.other.calls) == 1
    assert len(bench.first.calls) == 1


@pytest.mark.parametrize(("draw", "repeated"), [(0.0999, 1), (0.1, 0)])
async def test_the_share_is_drawn(draw: float, repeated: int) -> None:
    bench = Bench(Shadow("other", 10.0), draw)
    await bench.answered(answer(3))
    assert len(bench.other.calls) == repeated


async def test_calls_beyond_the_bound_are_dropped_until_one_has_ended() -> None:
    bench = Bench()
    for _ in range(5):
        await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts) == (2, {"dropped": 3})
    bench.other.calls[0].end(answer(3, stack="other"))
    await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts) == (3, {"dropped": 3, "equal": 1})


@pytest.mark.parametrize("stack", ["first", "other"])
async def test_calls_are_held_while_live_ones_wait_on_either_path_and_dropped_beyond_the_bound(stack: str) -> None:
    bench = Bench()
    bench.queues[stack].queued = 1
    for _ in range(3):
        await bench.answered(answer(3))
    assert (bench.other.calls, bench.counts) == ([], {"dropped": 1})
    bench.queues[stack].queued = 0
    await turns()
    assert (len(bench.other.calls), bench.counts) == (2, {"dropped": 1})


async def test_calls_that_wait_on_a_third_path_hold_nothing() -> None:
    bench = Bench()
    bench.queues["third"].queued = 1
    await bench.answered(answer(3))
    assert len(bench.other.calls) == 1


async def test_calls_are_dropped_when_live_ones_go_on_waiting() -> None:
    bench = Bench()
    bench.queues["other"].queued = 1
    await bench.answered(answer(3))
    await bench.answered(answer(3))
    for _ in range(MAX_LOOKS):
        await turns()
    assert (bench.other.calls, bench.counts) == ([], {"dropped": 2})
    bench.queues["other"].queued = 0
    for _ in range(3):
        await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts) == (2, {"dropped": 3})


async def test_on_a_path_that_merges_nothing_calls_are_repeated_until_one_waits() -> None:
    bench = Bench(Shadow("other", 100.0, 9), target=Filling())
    assert isinstance(bench.other, Filling)
    bench.other.queue = bench.queues["other"]
    bench.queues["other"].merges = False
    primaries = [call() for _ in range(4)]
    for primary in primaries:
        bench.policy.submit(primary)
        primary.end(answer(3))
    await turns()
    assert (len(bench.other.calls), bench.counts) == (2, {"dropped": 2})


@pytest.mark.parametrize(("outcome", "verdict"), [(BackendUnavailable("it is gone"), "failed"), (EXPIRED, "late")])
async def test_of_calls_that_fail_together_one_is_a_failure_of_its_own(outcome: Outcome, verdict: str) -> None:
    bench = Bench()
    primaries = [call(), call()]
    for primary in primaries:
        bench.policy.submit(primary)
        primary.end(answer(3))
    await turns()
    for repeated in bench.other.calls:
        repeated.end(outcome)
    assert bench.counts == {verdict: 2}
    assert bench.verdicts.shared == [False, True]


async def test_calls_that_were_answered_together_are_repeated_together() -> None:
    bench = Bench(target=Scoped())
    assert isinstance(bench.other, Scoped)
    bench.other.scope, ended = bench.scope, list[bool]()
    bench.scope.on_exit(lambda: ended.append(True))
    primaries = [call(), call()]
    for primary in primaries:
        bench.policy.submit(primary)
        primary.end(answer(3))
    await turns()
    assert bench.other.open == [True, True]
    assert ended == [True]


async def test_large_calls_are_dropped_beyond_the_bound_of_bytes_and_one_of_any_size_is_repeated() -> None:
    bench, elements = Bench(Shadow("other", 100.0, 9)), MAX_BYTES // 4
    large = answer()._replace(outputs=(Y._replace(shape=(elements, 1), data=bytes(MAX_BYTES)),))
    await bench.answered(large)
    await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts) == (1, {"dropped": 1})
    bench.other.calls[0].end(large)
    await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts) == (2, {"dropped": 1, "skipped": 1})


async def test_a_shadow_that_raises_touches_no_caller() -> None:
    bench = Bench(target=Raising())
    primary = await bench.answered(answer(3))
    assert primary.outcome == answer(3)
    assert bench.counts == {"failed": 1}
    await bench.answered(answer(3))
    await bench.answered(answer(3))
    assert bench.counts == {"failed": 3}


async def test_larger_answers_are_compared_off_the_event_loop_and_count_as_in_flight_until_then() -> None:
    bench = Bench()
    large = [1.0] * (SMALL + 1)
    for _ in range(2):
        await bench.answered(answer(*large))
    bench.other.calls[0].end(answer(*large, stack="other"))
    bench.other.calls[1].end(answer(*large[:-1], 2.0, stack="other"))
    assert bench.counts == {}
    async with asyncio.timeout(LONG_S):
        await bench.verdicts.two.wait()
    assert bench.counts == {"equal": 1, "different": 1}
    await turns()
    for _ in range(3):
        await bench.answered(answer(3))
    assert (len(bench.other.calls), bench.counts["dropped"]) == (4, 1)


@pytest.mark.parametrize("elements", [0, MAX_ELEMENTS + 1])
async def test_answers_of_nothing_or_too_much_are_skipped(elements: int) -> None:
    bench = Bench()
    many = answer()._replace(outputs=(Y._replace(shape=(elements, 1)),))
    await bench.answered(many)
    bench.other.calls[0].end(many)
    assert bench.counts == {"skipped": 1}


async def test_only_the_outputs_asked_for_are_compared() -> None:
    spec = replace(SPEC, outputs=(*SPEC.outputs, TensorSpec("z", "FP32", ("batch", 1))))
    bench = Bench(spec=spec)
    await bench.answered(answer(3))
    bench.other.calls[0].end(answer(3, stack="other"))
    assert bench.counts == {"equal": 1}


async def test_an_answer_of_another_shape_is_different() -> None:
    bench = Bench()
    await bench.answered(answer(3))
    bench.other.calls[0].end(answer(3, 4, stack="other"))
    assert bench.counts == {"different": 1}
    assert bench.verdicts.said == "output 'y' is FP32 [2, 1], expected FP32 [1, 1]"


async def test_the_policy_is_as_ready_as_its_path_and_closes_it() -> None:
    bench = Bench()
    bench.first.is_ready = False
    assert not bench.policy.ready()
    await bench.policy.close()
    assert bench.first.closed
    assert not bench.other.closed


def test_differences_are_logged_at_once_and_then_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    verdicts = Verdicts("m", SHADOW, clock=lambda: now)
    with caplog.at_level(logging.ERROR):
        verdicts.record("equal")
        for _ in range(5):
            verdicts.record("different", 1.0, "it is off")
        now += PAUSE_S
        verdicts.record("different", 0.5, "it is still off")
    assert [record.getMessage() for record in caplog.records] == [
        "shadow m@other answers differently, 1 of 2 times: it is off",
        "shadow m@other answers differently, 6 of 7 times: it is still off",
    ]
    assert (verdicts.difference, verdicts.said) == (1.0, "it is still off")


def test_verdicts_outlive_a_chain_as_long_as_their_table_is_the_same(tmp_path: Path) -> None:
    stacks = {"first": PathLimits(), "other": PathLimits()}
    model, shadows = Deployment("m", "first", stacks, shadow=SHADOW), Shadows(tmp_path)
    known = shadows.find(model, "other")
    assert known is not None
    assert shadows.find(model, "first") is None
    assert shadows.find(model, "other") is known
    again = Shadows(tmp_path, shadows)
    assert again.find(replace(model, shadow=replace(SHADOW)), "other") is known
    assert again.find(replace(model, shadow=replace(SHADOW, percent=5.0)), "other") is not known
    assert again.find(replace(model, shadow=None), "other") is None


def toleranced(tolerance: Tolerance, dtype: str = "FP32") -> Spec:
    return replace(SPEC, outputs=(TensorSpec("y", dtype, ("batch", 3)),), tolerance=tolerance)


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (Tolerance(1e-5, 1e-4), Tolerance(1e-2, 1e-3), Tolerance(1e-5 + 1e-2, 1e-4 + 1e-3)),
        (Tolerance(cosine=math.cos(0.1)), Tolerance(cosine=math.cos(0.2)), Tolerance(cosine=math.cos(0.3))),
        (Tolerance(top_k=1), Tolerance(top_k=1), Tolerance(top_k=1)),
        (Tolerance(top_k=2), Tolerance(top_k=3), Tolerance(top_k=3)),
        (Tolerance(1e-5, 1e-5), Tolerance(top_k=1), Tolerance(top_k=1)),
    ],
)
def test_two_answers_may_be_apart_by_both_their_tolerances(one: Tolerance, other: Tolerance, joined: Tolerance) -> None:
    (output,) = between(toleranced(one), toleranced(other)).outputs
    assert output.tolerance is not None
    assert (output.tolerance.rtol, output.tolerance.atol) == pytest.approx((joined.rtol, joined.atol))
    assert output.tolerance.cosine == pytest.approx(joined.cosine)
    assert output.tolerance.top_k == joined.top_k


def test_whole_numbers_stay_exact() -> None:
    spec = between(toleranced(Tolerance(1, 1), "INT64"), toleranced(Tolerance(1, 1), "INT64"))
    assert spec.tolerance_of(spec.outputs[0]) == Tolerance(0, 0)


def test_the_request_of_a_call_is_the_callers_even_after_a_policy_has_changed_it() -> None:
    bench, primary = Bench(), call()
    asked = primary.request
    bench.policy.submit(primary)
    primary.request = Request("m@first", 0, ())

    async def end() -> None:
        primary.end(answer(3))
        await turns()

    asyncio.run(end())
    assert bench.other.calls[0].request.inputs == asked.inputs
