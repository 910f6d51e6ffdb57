"""Which path answers where a model's own path cannot."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from servepath.protocols.errors import (
    BackendBadReply,
    BackendMisconfigured,
    BackendUnavailable,
    BadInput,
    DeadlineExceeded,
    DeadlineStage,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    ServeError,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
from services.gateway.fallback import Fallback
from services.gateway.router import WeightedRouter
from tests.serving_fakes import ANSWER

DOWN = BackendUnavailable("down")


class Chain:
    """Ends its calls as the test says; notes under which names they came."""

    def __init__(self, outcome: Outcome, *, ready: bool = True) -> None:
        self.outcome = outcome
        self.ready_now = ready
        self.names: list[str] = []
        self.closed = 0

    def submit(self, call: Call) -> None:
        self.names.append(call.name)
        call.end(self.outcome)

    def ready(self) -> bool:
        return self.ready_now

    async def close(self) -> None:
        self.closed += 1


def fallback(chains: dict[str, Chain], on_leave: Callable[[str], None] = lambda _: None) -> Fallback:
    """Return a fallback of all calls from the first path over the others."""
    first = next(iter(chains))
    paths: Any = chains
    return Fallback(WeightedRouter(paths, {first: 100.0}), paths, {first: tuple(chains)}, chains, on_leave)


def outcome_of(chains: dict[str, Chain], left: list[str] | None = None) -> Outcome:
    call = Call(Request("m", 0, ()), 0.0)
    seen: list[Outcome] = []
    call.add_done_callback(seen.append)
    fallback(chains, (left if left is not None else []).append).submit(call)
    (outcome,) = seen  # once, whatever was tried
    assert outcome is call.outcome
    return outcome


@pytest.mark.parametrize("error", [DOWN, BackendMisconfigured(""), BackendBadReply(""), ModelLoading("")])
def test_what_a_path_cannot_answer_the_next_one_does(error: ServeError) -> None:
    chains, left = {"m@a": Chain(error), "m@b": Chain(ANSWER)}, list[str]()
    assert outcome_of(chains, left) is ANSWER
    assert (chains["m@a"].names, chains["m@b"].names, left) == (["m@a"], ["m@b"], ["m@a"])


@pytest.mark.parametrize("error", [BadInput(""), Overloaded(""), DeadlineExceeded(DeadlineStage.IN_BACKEND)])
def test_what_another_path_would_do_no_better_ends_the_call(error: ServeError) -> None:
    chains = {"m@a": Chain(error), "m@b": Chain(ANSWER)}
    assert outcome_of(chains) is error
    assert chains["m@b"].names == []


def test_a_path_that_is_not_ready_is_passed_over() -> None:
    chains, left = {"m@a": Chain(ANSWER, ready=False), "m@b": Chain(ANSWER)}, list[str]()
    outcome_of(chains, left)
    assert (chains["m@a"].names, left) == ([], ["m@a"])


def test_where_no_path_ready_now_each_is_tried() -> None:
    chains = {"m@a": Chain(DOWN, ready=False), "m@b": Chain(ANSWER, ready=False)}
    assert outcome_of(chains) is ANSWER


def test_where_none_answers_the_caller_gets_the_error_of_the_models_own_path() -> None:
    chains = {"m@a": Chain(DOWN), "m@b": Chain(ModelNotFound("")), "m@c": Chain(BackendBadReply(""))}
    assert outcome_of(chains) is DOWN
    assert [chain.names for chain in chains.values()] == [["m@a"], ["m@b"], ["m@c"]]


def test_an_unknown_version_is_the_callers_fault_on_its_own_path_and_none_on_another() -> None:
    missing = ModelNotFound("")
    assert outcome_of({"m@a": Chain(missing), "m@b": Chain(ANSWER)}) is missing
    assert outcome_of({"m@a": Chain(DOWN), "m@b": Chain(missing), "m@c": Chain(ANSWER)}) is ANSWER


@pytest.mark.parametrize("error", [ModelNotFound(""), DOWN])
def test_where_the_own_path_was_passed_over_the_caller_is_told_that_it_is_not_ready(error: ServeError) -> None:
    outcome = outcome_of({"m@a": Chain(ANSWER, ready=False), "m@b": Chain(error)})
    assert isinstance(outcome, BackendUnavailable)
    assert outcome.text == "m@a is not ready"


def test_a_wrong_request_is_told_so_wherever_it_was_looked_at() -> None:
    wrong = BadInput("")
    assert outcome_of({"m@a": Chain(ANSWER, ready=False), "m@b": Chain(wrong), "m@c": Chain(ANSWER)}) is wrong


def test_a_full_queue_on_the_way_ends_the_call() -> None:
    full = Overloaded("")
    assert outcome_of({"m@a": Chain(DOWN), "m@b": Chain(full), "m@c": Chain(ANSWER)}) is full


def test_a_call_that_nobody_answers_counts_for_its_own_path() -> None:
    chains = {"m@a": Chain(DOWN), "m@b": Chain(DOWN)}
    call = Call(Request("m", 0, ()), 0.0)
    fallback(chains).submit(call)
    assert call.name == "m@a"


@pytest.mark.parametrize(("ready", "expected"), [((False, True), True), ((False, False), False), ((True, False), True)])
def test_a_model_ready_now_while_some_path_of_it_is(ready: Sequence[bool], expected: bool) -> None:  # noqa: FBT001
    chains = {name: Chain(ANSWER, ready=one) for name, one in zip(("m@a", "m@b"), ready, strict=True)}
    assert fallback(chains).ready() is expected


async def test_closing_closes_every_path() -> None:
    chains = {"m@a": Chain(ANSWER), "m@b": Chain(ANSWER)}
    await fallback(chains).close()
    assert [chain.closed for chain in chains.values()] == [1, 1]
