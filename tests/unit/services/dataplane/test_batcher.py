import asyncio
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servepath.protocols.errors import (
    BackendBadReply,
    BackendUnavailable,
    BadInput,
    Cancelled,
    DeadlineExceeded,
    DeadlineStage,
    Internal,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane import batcher as batcher_module
from services.dataplane.backend import Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from tests.examples import examples
from tests.serving_fakes import ANSWER, SERVED, Keeping

POISON = -1.0


def nonces(*values: float, name: str = "x", width: int = 1, **request: object) -> Call:
    """Return a call of one row per value; the value fills the row."""
    data = b"".join(struct.pack("<f", value) * width for value in values)
    tensor = Tensor(name, "FP32", (len(values), width), data)
    made = Call(Request(str(request.pop("model", "m")), 0, (tensor,))._replace(**request), 0.0)  # type: ignore[arg-type]
    made.rows = len(values)
    return made


def values_of(outcome: Outcome | None) -> list[float]:
    """Return the nonces of an answer."""
    assert isinstance(outcome, Answer)
    (y,) = outcome.outputs
    assert len(y.data) == 4 * y.shape[0]
    return list(struct.unpack(f"<{y.shape[0]}f", y.data))


def echo(call: Call) -> Outcome:
    """Answer every row with its nonce; refuse a call that holds a poisonous row."""
    x = call.request.inputs[0]
    values = struct.unpack(f"<{len(x.data) // 4}f", x.data)[:: x.shape[1]]
    if POISON in values:
        return BadInput("poison", "CONTENT")
    return Answer((Tensor("y", "FP32", (len(values), 1), struct.pack(f"<{len(values)}f", *values)),), SERVED)


class Bench:
    """A Merge over a backend that keeps its calls, and the rows of every call that was sent."""

    def __init__(self, batch_scope: BatchScope | None = None, **limits: Any) -> None:
        self.inner = Keeping()
        self.batch_scope = batch_scope or BatchScope()
        self.batcher = Batcher(self.inner, BatchLimits(**limits), self.batch_scope)
        self.sent: list[int] = []
        self.batcher.on_send = self.sent.append

    def submit(self, *calls: Call) -> None:
        for call in calls:
            self.batcher.submit(call)

    @property
    def open(self) -> list[Call]:
        return [call for call in self.inner.calls if call.outcome is None]

    def answer_all(self, answer: Callable[[Call], Outcome] = echo) -> None:
        while self.open:
            self.open[0].end(answer(self.open[0]))


def test_calls_up_to_the_limit_go_on_alone_and_the_waiting_ones_leave_together() -> None:
    bench = Bench(max_in_flight=2)
    calls = [nonces(n) for n in range(5)]
    bench.submit(*calls)
    assert (bench.inner.calls, bench.batcher.in_flight, bench.batcher.queued) == (calls[:2], 2, 3)
    calls[1].end(ANSWER)
    assert (bench.sent, bench.batcher.in_flight, bench.batcher.queued) == ([1, 1, 3], 2, 0)
    bench.answer_all()
    assert [values_of(call.outcome) for call in (calls[0], *calls[2:])] == [[0], [2], [3], [4]]
    assert (bench.batcher.in_flight, bench.batcher.queued) == (0, 0)


def test_waiting_calls_leave_one_by_one_while_they_may_not_be_merged() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(6)]
    bench.submit(*calls[:4])
    assert bench.batcher.merges
    bench.batcher.merging = False
    assert not bench.batcher.merges
    bench.inner.calls[-1].end(ANSWER)
    bench.inner.calls[-1].end(ANSWER)
    assert bench.sent == [1, 1, 1]
    bench.batcher.merging = True
    bench.submit(*calls[4:])
    bench.answer_all()
    assert bench.sent == [1, 1, 1, 3]
    assert (bench.batcher.in_flight, bench.batcher.queued) == (0, 0)


def test_a_call_knows_how_long_it_waited_and_one_that_left_at_once_did_not() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(3)]
    bench.submit(*calls)
    assert (calls[0].queued_ns, calls[1].queued_ns < 0) == (0, True)
    bench.answer_all()
    assert (calls[0].queued_ns, min(call.queued_ns for call in calls[1:]) > 0) == (0, True)


def test_members_of_several_rows_get_their_own_rows() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(0), nonces(1, 2), nonces(3), nonces(4, 5, 6)]
    bench.submit(*calls)
    bench.answer_all()
    assert bench.sent == [1, 6]
    assert [values_of(call.outcome) for call in calls] == [[0], [1, 2], [3], [4, 5, 6]]


def test_a_list_of_calls_leaves_as_one() -> None:
    bench = Bench(max_in_flight=2)
    with bench.batch_scope:
        bench.submit(*(nonces(n) for n in range(5)))
        assert bench.sent == []
    assert (bench.sent, bench.batcher.in_flight) == ([5], 1)


def test_a_list_longer_than_the_queue_is_taken_as_far_as_there_is_room() -> None:
    bench = Bench(max_in_flight=2, max_queue=1)
    calls = [nonces(n) for n in range(4)]
    with bench.batch_scope:
        bench.submit(*calls)
    assert (bench.sent, bench.batcher.queued) == ([1, 1], 1)
    assert isinstance(calls[3].outcome, Overloaded)


def test_a_call_above_limit_and_queue_is_refused_at_once() -> None:
    bench = Bench(max_in_flight=1, max_queue=1)
    first, second, third = nonces(1), nonces(2), nonces(3)
    bench.submit(first, second, third)
    assert isinstance(third.outcome, Overloaded)
    assert third.outcome.text == "1 requests in flight and 1 waiting on this path"
    assert (first.outcome, second.outcome) == (None, None)


def test_rows_bound_a_merged_call_and_a_larger_call_goes_alone() -> None:
    bench = Bench(max_in_flight=1, max_rows=4)
    bench.submit(nonces(0), nonces(1, 2), nonces(3, 4), nonces(5), nonces(*range(9)), nonces(6))
    bench.answer_all()
    assert bench.sent == [1, 4, 1, 9, 1]


def test_bytes_bound_a_merged_call() -> None:
    bench = Bench(max_in_flight=1, max_bytes=8)
    bench.submit(*(nonces(n) for n in range(6)), nonces(1, 2, 3))
    bench.answer_all()
    assert bench.sent == [1, 2, 2, 1, 3]


def test_where_calls_take_long_each_in_flight_gets_its_share_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(batcher_module, "perf_counter", lambda: now)
    bench = Bench(max_in_flight=2)
    bench.submit(nonces(0))
    now = 10 * batcher_module.SHARED_S
    bench.answer_all()
    bench.submit(*(nonces(float(value)) for value in range(10)))
    bench.open[0].end(echo(bench.open[0]))  # 9 rows are outstanding, 8 of them wait
    bench.open[0].end(echo(bench.open[0]))  # 8 rows, 3 wait
    assert bench.sent == [1, 1, 1, 5, 3]


def test_one_row_at_most_merges_nothing() -> None:
    bench = Bench(max_in_flight=1, max_rows=1)
    bench.submit(*(nonces(n) for n in range(4)))
    bench.answer_all()
    assert bench.sent == [1] * 4


def test_both_names_of_a_path_merge() -> None:
    bench = Bench(max_in_flight=1)
    bench.submit(nonces(0), nonces(1, model="m"), nonces(2, model="m@onnx"))
    bench.answer_all()
    assert bench.sent == [1, 2]


@pytest.mark.parametrize(
    "other",
    [
        nonces(2, width=2),
        nonces(2, name="z"),
        nonces(2, version=7),
        nonces(2, outputs=("y",)),
        nonces(2, inputs=(Tensor("x", "INT32", (1, 1), bytes(4)),)),
    ],
)
def test_what_differs_is_not_merged(other: Call) -> None:
    bench = Bench(max_in_flight=1)
    bench.submit(nonces(0), nonces(1), Call(other.request, 0.0))
    bench.answer_all(lambda _: ANSWER)
    assert len(bench.sent) == 3


def test_the_order_of_the_inputs_does_not_matter() -> None:
    bench = Bench(max_in_flight=1)
    a, b = (Tensor(name, "FP32", (1, 1), name.encode() * 4) for name in "ab")
    calls = [nonces(0), nonces(1, inputs=(a, b)), nonces(2, inputs=(b, a))]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    merged = bench.inner.calls[1].request
    assert merged.inputs == (Tensor("a", "FP32", (2, 1), b"a" * 8), Tensor("b", "FP32", (2, 1), b"b" * 8))


def test_two_interleaved_shapes_still_merge_and_neither_starves() -> None:
    bench = Bench(max_in_flight=1, max_rows=3)
    bench.submit(nonces(0), *(nonces(n, width=1 + n % 2) for n in range(8)))
    bench.answer_all()
    assert bench.sent == [1, 3, 3, 1, 1]
    assert [call.request.inputs[0].shape[1] for call in bench.inner.calls] == [1, 1, 2, 1, 2]


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_waiting_call_that_ends_leaves_the_queue_and_never_reaches_the_backend(how: str) -> None:
    bench = Bench(max_in_flight=1, max_queue=2)
    first, gone, last = nonces(1), nonces(2), nonces(3)
    bench.submit(first, gone)
    getattr(gone, how)()
    bench.submit(last)
    bench.answer_all()
    assert bench.inner.calls == [first, last]


def test_the_result_of_a_member_that_ended_in_flight_is_dropped() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    calls[2].expire()
    assert isinstance(calls[2].outcome, DeadlineExceeded)
    assert calls[2].outcome.reason == DeadlineStage.IN_BACKEND
    bench.answer_all()
    assert isinstance(calls[2].outcome, DeadlineExceeded)
    assert [values_of(calls[n].outcome) for n in (1, 3)] == [[1], [3]]


def test_a_merged_call_lasts_as_long_as_its_most_patient_member_and_is_cancelled_when_all_have_ended() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    for number, call in enumerate(calls):
        call.deadline = [9.0, 1.0, 3.0, 2.0][number]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    merged = bench.inner.calls[1]
    assert (merged.deadline, merged.rows) == (3.0, 3)
    calls[1].expire()
    calls[2].cancel()
    assert merged.outcome is None
    calls[3].expire()
    assert merged.outcome is not None
    assert bench.batcher.in_flight == 0


@pytest.mark.parametrize("poisonous", [{2}, {1, 8}, set(range(1, 9)), {4, 5}])
def test_a_poisonous_request_fails_alone(poisonous: set[int]) -> None:
    bench = Bench(max_in_flight=2)
    calls = [nonces(POISON if n in poisonous else n) for n in range(10)]
    bench.submit(calls[9], *calls[:9])
    bench.answer_all()
    for number, call in enumerate(calls):
        if number in poisonous:
            assert isinstance(call.outcome, BadInput)
        else:
            assert values_of(call.outcome) == [number]
    assert (bench.batcher.in_flight, bench.batcher.queued) == (0, 0)


def test_a_merged_call_that_is_too_large_is_split() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(5)]
    bench.submit(*calls)
    bench.answer_all(lambda call: TooLarge("too large") if call.rows > 2 else echo(call))
    assert bench.sent == [1, 4, 2, 2]
    assert [values_of(call.outcome) for call in calls] == [[n] for n in range(5)]


def test_members_that_end_before_their_part_is_sent_are_left_out() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(0), *(nonces(POISON) for _ in range(4))]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    bench.inner.calls[1].end(BadInput("poison"))
    calls[3].cancel()
    calls[4].expire()
    bench.answer_all()
    assert bench.sent == [1, 4, 2, 1, 1]


@pytest.mark.parametrize(
    "error", [BackendUnavailable("gone"), Overloaded("full"), DeadlineExceeded(DeadlineStage.IN_BACKEND), Internal()]
)
def test_other_failures_are_every_members_and_nothing_is_sent_again(error: ServeError) -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    bench.inner.calls[1].end(error)
    assert [call.outcome for call in calls[1:]] == [error] * 3
    assert len(bench.sent) == 2


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (Tensor("y", "FP32", (2, 1), bytes(8)),),
        (Tensor("y", "FP32", (4, 1), bytes(16)),),
        (Tensor("y", "FP32", (3, 1), bytes(8)),),
        (Tensor("y", "FP32", (), bytes(12)),),
        (Tensor("y", "FP31", (3, 1), bytes(12)),),
        (Tensor("y", "BYTES", (3, 1), b"\1\0\0\0"),),
        (Tensor("y", "FP32", (3, 1), bytes(12)), Tensor("z", "FP32", (2, 1), bytes(8))),
    ],
)
def test_a_reply_that_cannot_be_cut_fails_all_its_members(outputs: tuple[Tensor, ...]) -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    bench.inner.calls[1].end(Answer(outputs, SERVED))
    assert all(isinstance(call.outcome, BackendBadReply) for call in calls[1:])


def test_strings_are_cut_at_their_rows() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(0), nonces(1), nonces(2, 3)]
    bench.submit(*calls)
    calls[0].end(ANSWER)
    rows = [struct.pack("<I", len(text)) + text for text in (b"", b"ab", b"c")]
    bench.inner.calls[1].end(Answer((Tensor("y", "BYTES", (3, 1), b"".join(rows)),), SERVED))
    assert calls[1].outcome == Answer((Tensor("y", "BYTES", (1, 1), rows[0]),), SERVED)
    assert calls[2].outcome == Answer((Tensor("y", "BYTES", (2, 1), rows[1] + rows[2]),), SERVED)


def test_a_member_whose_end_fails_does_not_cost_the_others_their_answers(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    calls[1].add_done_callback(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    bench.submit(*calls)
    bench.answer_all()
    assert [values_of(call.outcome) for call in calls] == [[n] for n in range(4)]
    assert "ZeroDivisionError" in caplog.text


def test_a_backend_that_raises_ends_every_member() -> None:
    bench = Bench(max_in_flight=1)
    calls = [nonces(n) for n in range(4)]
    bench.submit(*calls)

    def broken(_: Call) -> None:
        raise RuntimeError

    bench.inner.submit = broken  # type: ignore[method-assign]
    calls[0].end(ANSWER)
    assert all(isinstance(call.outcome, Internal) for call in calls[1:])
    assert bench.batcher.in_flight == 0


def test_a_call_that_ends_while_it_is_submitted_frees_its_place() -> None:
    bench = Bench(max_in_flight=1, max_queue=0)
    bench.inner.submit = lambda one: one.end(ANSWER)  # type: ignore[method-assign]
    for _ in range(3):
        one = nonces(1)
        bench.submit(one)
        assert one.outcome == ANSWER
    assert bench.batcher.in_flight == 0


@pytest.mark.parametrize("max_rows", [1, 64])
@pytest.mark.parametrize("outcome", [ANSWER, BadInput("all of it"), BackendUnavailable("gone")])
def test_a_full_queue_of_calls_that_end_at_once_empties(max_rows: int, outcome: Outcome) -> None:
    bench = Bench(max_in_flight=1, max_queue=10_000, max_rows=max_rows)
    calls = [nonces(n) for n in range(10_001)]
    bench.submit(*calls)
    bench.inner.submit = lambda one: one.end(outcome)  # type: ignore[method-assign]
    calls[0].end(ANSWER)
    assert all(call.outcome is not None for call in calls)
    assert (bench.batcher.in_flight, bench.batcher.queued) == (0, 0)


def test_readiness_and_closing_are_the_inner_backends() -> None:
    bench = Bench()
    assert bench.batcher.ready()
    bench.inner.is_ready = False
    assert not bench.batcher.ready()
    asyncio.run(bench.batcher.close())
    assert bench.inner.closed


class World:
    """Calls of two shapes and every fate, and what each of them is owed."""

    def __init__(self, **limits: int) -> None:
        self.bench = Bench(max_queue=6, **limits)
        self.limits = limits
        self.wanted: dict[Call, list[float]] = {}
        self.ends: list[Call] = []
        self.dropped = False

    def make(self, number: int, rows: int, *, poison: bool = False) -> Call:
        values = [float(1000 * len(self.wanted) + row) for row in range(rows)]
        sent = [POISON if poison and row == number % rows else value for row, value in enumerate(values)]
        call = nonces(*sent, width=1 + number % 2)
        call.add_done_callback(lambda _: self.ends.append(call))
        self.wanted[call] = values
        return call

    def submit(self, number: int, rows: int) -> None:
        self.bench.submit(self.make(number, rows))

    def poison(self, number: int, rows: int) -> None:
        self.bench.submit(self.make(number, rows, poison=True))

    def list(self, number: int, rows: int) -> None:
        with self.bench.batch_scope:
            self.bench.submit(*(self.make(number + n, rows) for n in range(number % 5)))

    def answer(self, number: int, _: int) -> None:
        for sent in self.bench.open[number % 3 :][:1]:
            sent.end(echo(sent))

    def drop(self, number: int, _: int) -> None:
        for sent in self.bench.open[number % 3 :][:1]:
            self.dropped = True
            sent.end(BackendUnavailable("gone"))

    def cancel(self, number: int, _: int) -> None:
        for call in list(self.wanted)[number:][:1]:
            call.cancel()

    def expire(self, number: int, _: int) -> None:
        for call in list(self.wanted)[number:][:1]:
            call.expire()

    def check_bounds(self) -> None:
        assert self.bench.batcher.in_flight == len(self.bench.open) <= self.limits["max_in_flight"]
        assert self.bench.batcher.queued <= 6
        for sent in self.bench.inner.calls:
            if sent not in self.wanted:
                assert sent.rows <= self.limits["max_rows"]
                assert len(sent.request.inputs[0].data) <= self.limits["max_bytes"]

    def check_ends(self) -> None:
        assert sorted(map(id, self.ends)) == sorted(map(id, self.wanted))
        for call, values in self.wanted.items():
            if isinstance(call.outcome, Answer):
                assert values_of(call.outcome) == values
            elif isinstance(call.outcome, BadInput):
                assert struct.pack("<f", POISON) in call.request.inputs[0].data
            elif isinstance(call.outcome, BackendUnavailable):
                assert self.dropped
            else:
                assert isinstance(call.outcome, Cancelled | DeadlineExceeded | Overloaded)


STEPS = st.tuples(
    st.sampled_from(
        [*[World.submit] * 3, World.poison, World.list, World.answer, World.drop, World.cancel, World.expire]
    ),
    st.integers(0, 40),
    st.integers(1, 3),
)


@settings(max_examples=examples(300))
@given(st.lists(STEPS, max_size=80), st.integers(1, 3), st.integers(1, 8), st.sampled_from([8, 24, 10_000]))
def test_whatever_happens_every_member_ends_once_and_with_its_own_rows(
    steps: list[tuple[Callable[[World, int, int], None], int, int]], max_in_flight: int, max_rows: int, max_bytes: int
) -> None:
    world = World(max_in_flight=max_in_flight, max_rows=max_rows, max_bytes=max_bytes)
    for step, number, rows in steps:
        step(world, number, rows)
        world.check_bounds()
    while world.bench.open:  # the latest first: the order of the replies must not matter
        world.bench.open[-1].end(echo(world.bench.open[-1]))
        world.check_bounds()
    assert (world.bench.batcher.in_flight, world.bench.batcher.queued) == (0, 0)
    world.check_ends()


def texts(*lengths: int, value: int = 7) -> Call:
    """Return a call of one row for each length; all have one length, and as many ids as a mask of ones says."""
    (length,) = set(lengths)
    data = struct.pack(f"<{len(lengths) * length}q", *[value] * (len(lengths) * length))
    ones = struct.pack(f"<{len(lengths) * length}q", *[1] * (len(lengths) * length))
    shape = (len(lengths), length)
    made = Call(Request("m", 0, (Tensor("ids", "INT64", shape, data), Tensor("mask", "INT64", shape, ones))), 0.0)
    made.rows = len(lengths)
    return made


PADDED = frozenset({"ids", "mask"})


def test_texts_of_nearly_one_length_leave_together_filled_up_with_zeros() -> None:
    bench = Bench(max_in_flight=1, padded=PADDED)
    bench.submit(texts(5), texts(10), texts(20, value=9), texts(13, 13, value=8), texts(12))
    bench.inner.calls[0].end(ANSWER)
    merged = bench.inner.calls[1].request
    # 20 is more than 1.3 times as long as 10, and goes alone behind them.
    assert bench.sent == [1, 4]
    ids, mask = ([struct.unpack("<13q", t.data[at : at + 104]) for at in range(0, 416, 104)] for t in merged.inputs)
    assert [tensor.shape for tensor in merged.inputs] == [(4, 13), (4, 13)]
    assert ids == [(7,) * 10 + (0,) * 3, (8,) * 13, (8,) * 13, (7,) * 12 + (0,)]
    assert mask == [(1,) * 10 + (0,) * 3, (1,) * 13, (1,) * 13, (1,) * 12 + (0,)]
    bench.inner.calls[1].end(ANSWER)
    assert [tensor.shape for tensor in bench.inner.calls[2].request.inputs] == [(1, 20), (1, 20)]


def test_texts_of_other_lengths_do_not_pass_for_dearer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging saves a sixth of each text's time; laps of lone calls differ by as much, through their texts alone."""
    now = 0.0
    monkeypatch.setattr(batcher_module, "perf_counter", lambda: now)
    lengths = random.Random(1)  # noqa: S311 - lengths, not secrets
    bench = Bench(max_in_flight=1, padded=PADDED)
    bench.submit(*(texts(int(8 * 16 ** lengths.random())) for _ in range(16)))
    calls, merged = 1500, 0
    for _ in range(calls):
        (call,) = bench.open
        bench.inner.calls.clear()
        now += 20e-3 + 1e-3 * call.rows * call.request.inputs[0].shape[1]
        merged += bench.batcher.merges
        bench.submit(*(texts(int(8 * 16 ** lengths.random())) for _ in range(call.rows)))
        call.end(Answer((Tensor("y", "FP32", (call.rows,), bytes(4 * call.rows)),), SERVED))
    assert merged / calls > 0.93


def test_a_text_of_no_token_is_not_filled_up() -> None:
    bench = Bench(max_in_flight=1, padded=PADDED)
    bench.submit(texts(5), texts(0), texts(1), texts(0))
    bench.inner.calls[0].end(ANSWER)
    assert [tensor.shape for tensor in bench.inner.calls[1].request.inputs] == [(2, 0), (2, 0)]


def test_texts_of_several_lengths_stay_apart_where_zeros_would_change_answers() -> None:
    bench = Bench(max_in_flight=1)
    bench.submit(texts(5), texts(10), texts(11))
    bench.inner.calls[0].end(ANSWER)
    assert bench.sent == [1, 1]


def pairs(question: int, page: int) -> Call:
    """Return a call of one row of two texts, each of its own length."""
    tensors = [Tensor(name, "INT64", (1, size), bytes(8 * size)) for name, size in (("q", question), ("p", page))]
    made = Call(Request("m", 0, tuple(tensors)), 0.0)
    made.rows = 1
    return made


def test_every_padded_axis_is_of_nearly_one_length() -> None:
    bench = Bench(max_in_flight=1, padded=frozenset({"q", "p"}))
    bench.submit(pairs(5, 5), pairs(10, 4), pairs(10, 512), pairs(11, 5))
    bench.inner.calls[0].end(ANSWER)
    assert [tensor.shape for tensor in bench.inner.calls[1].request.inputs] == [(2, 11), (2, 5)]


def test_the_bytes_of_a_filled_up_call_are_bounded() -> None:
    bench = Bench(max_in_flight=1, padded=PADDED, max_bytes=16 * 36)
    bench.submit(texts(5), texts(10), texts(10), texts(13))
    bench.inner.calls[0].end(ANSWER)
    assert [tensor.shape for tensor in bench.inner.calls[1].request.inputs] == [(2, 10), (2, 10)]
