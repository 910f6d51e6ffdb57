"""A bench of made-up services: what is started and stopped for a candidate, and what throws it out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loadtest.measurement_spec import MeasurementSpec
from loadtest.plan import ServingPath
from loadtest.run import RunError
from loadtest.tune.bench import Bench, StartError, start_default
from loadtest.tune.search import Trial
from loadtest.tune.space import Candidate
from servepath.protocols.tuned import Tuned
from tests.tuned import make_tuned

PATH = ServingPath("m", "onnx")
SLO_US = 20e3
FOUR: Candidate = (("threads", 4),)


@dataclass
class FakeServices:
    """Services that note what they are told. broken: settings with which they do not start."""

    told: list[Any] = field(default_factory=list)
    broken: str = ""

    def start(self, settings: Tuned | None) -> None:
        values = dict(settings.settings) if settings else {}
        self.told.append(("start", values))
        if self.broken in values:
            raise StartError("no such thread")

    def stop(self, names: Sequence[str] = ()) -> None:
        self.told.append(("stop", *names))

    def pids(self) -> list[int]:
        return []


@dataclass
class FakeLoad:
    """Rows of a server that keeps up to a rate. rates, wrong, failing (in which of its blocks, from 0): by side."""

    rates: dict[str, float]
    wrong: frozenset[str] = frozenset()
    failing: Mapping[str, Collection[int]] = field(default_factory=dict)
    sent: list[MeasurementSpec] = field(default_factory=list)

    def __call__(self, spec: MeasurementSpec) -> pa.Table:
        self.sent.append(spec)
        side = spec.turn.measurement.side
        due_ns = np.array(spec.moments()[spec.ramp_up :])
        due_s = (due_ns - due_ns[0]) / 1e9
        rate = spec.rate * 2 ** (due_s / spec.doubling_s) if spec.doubling_s else np.full(len(due_s), spec.rate)
        response_us = np.where(rate <= self.rates[side], 1e9 / self.rates[side] / 1e3, 90e3)
        count = len(due_ns)
        columns = {"scheduled_ns": due_ns, "sent_ns": due_ns, "response_us": response_us, "service_us": response_us}
        block = sum(each.turn.measurement.side == side for each in self.sent) - 1
        fails = block in self.failing.get(side, ())
        truths = {"ok": np.full(count, not fails), "wrong": np.full(count, side in self.wrong)}
        words = {"code": ["UNAVAILABLE" if fails else "OK"] * count, "phase": ["measure"] * count}
        return pa.table({**columns, **truths, **words})


def bench_of(
    load: FakeLoad, services: FakeServices, goal: str = "rate", rate: float = 0.0, wrong_at_first: str = ""
) -> Bench:
    """Return a bench of a path. wrong_at_first: a side whose answers are wrong while its servers get warm."""

    def tuned_of(candidate: Candidate) -> Tuned:
        return make_tuned(str(PATH), {name: value for name, value in candidate if isinstance(value, int)})

    return Bench(
        path=PATH,
        goal=goal,
        slo_us=SLO_US,
        rate=rate,
        connections=4,
        seed=1,
        sides={"default": FakeServices(), "candidate": services},
        send=load,
        warm=lambda spec: [pa.table({"wrong": [spec.turn.measurement.side == wrong_at_first]})] * 2,
        tuned_of=tuned_of,
        default_rate=rate or 1000.0,
    )


def default_of(bench: Bench) -> FakeServices:
    default = bench.sides["default"]
    assert isinstance(default, FakeServices)
    return default


def test_a_trial_has_a_round_of_both_sides_for_each_that_was_asked_for() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 2000.0})

    trial = bench_of(load, FakeServices()).measure(FOUR, 3, 7, fresh=False)

    assert trial.out == ""
    assert [round(each.candidate / each.default, 1) for each in trial.rounds] == [2.0, 2.0, 2.0]
    sides = [spec.turn.measurement.side for spec in load.sent]
    assert [sorted(pair) for pair in zip(sides[::2], sides[1::2], strict=True)] == [["candidate", "default"]] * 3
    assert [one.moments() for one in load.sent[::2]] == [other.moments() for other in load.sent[1::2]]


def test_only_what_differs_from_the_last_candidate_is_started_again() -> None:
    services = FakeServices()
    bench = bench_of(FakeLoad({"default": 1000.0, "candidate": 1000.0}), services)

    for candidate in (FOUR, FOUR, (("max_in_flight", 16), *FOUR), (("max_in_flight", 16), ("threads", 1))):
        bench.measure(candidate, 1, 0, fresh=False)

    assert services.told == [
        ("start", {"threads": 4}),
        ("stop", "gateway"),
        ("start", {"max_in_flight": 16, "threads": 4}),
        ("stop",),
        ("start", {"max_in_flight": 16, "threads": 1}),
    ]
    # With the candidate's server the default's is, so that both are as old; with its gateway alone it is not.
    assert default_of(bench).told == [("stop",), ("start", {})] * 2


def test_a_fresh_trial_starts_both_sides_again() -> None:
    services = FakeServices()
    bench = bench_of(FakeLoad({"default": 1000.0, "candidate": 1000.0}), services)

    for fresh in (False, True):
        bench.measure(FOUR, 1, 0, fresh=fresh)

    assert services.told == [("start", {"threads": 4}), ("stop",), ("start", {"threads": 4})]
    assert default_of(bench).told == [("stop",), ("start", {})] * 2


def test_a_candidate_whose_service_has_ended_is_out() -> None:
    class Ended(FakeServices):
        def pids(self) -> list[int]:
            raise FileNotFoundError("onnx_svc.pid")

    trial = bench_of(FakeLoad({"default": 200.0, "candidate": 200.0}), Ended(), "cpu", 100.0).measure(
        FOUR, 1, 0, fresh=False
    )

    assert trial.out == "a service ended by itself"


def test_a_candidate_that_does_not_start_is_out_and_the_next_one_starts_from_nothing() -> None:
    services = FakeServices(broken="threads")
    bench = bench_of(FakeLoad({"default": 1000.0, "candidate": 1000.0}), services)

    trial = bench.measure(FOUR, 2, 0, fresh=False)

    assert trial == Trial(FOUR, (), "does not start: no such thread")
    assert services.told == [("start", {"threads": 4}), ("stop",)] * 2
    assert bench.measure((("max_in_flight", 1),), 1, 0, fresh=False).rounds


def test_a_candidate_that_answers_wrongly_is_out() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0}, wrong=frozenset({"candidate"}))

    trial = bench_of(load, FakeServices()).measure(FOUR, 2, 0, fresh=False)

    assert trial.rounds == ()
    assert trial.out.endswith(" answers are wrong")
    assert len(load.sent) == 2


def test_a_default_that_answers_wrongly_ends_the_search() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0}, wrong=frozenset({"default"}))

    with pytest.raises(RunError, match=r"m@onnx with the default settings: .* answers are wrong"):
        bench_of(load, FakeServices()).measure(FOUR, 2, 0, fresh=False)


def test_wrong_answers_before_the_first_round_throw_a_candidate_out_and_end_the_search_for_a_default() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0})

    trial = bench_of(load, FakeServices(), wrong_at_first="candidate").measure(FOUR, 1, 0, fresh=False)

    assert (trial, load.sent) == (Trial(FOUR, (), "2 of 2 answers are wrong"), [])
    with pytest.raises(RunError, match="m@onnx with the default settings: 2 of 2 answers are wrong"):
        bench_of(load, FakeServices(), wrong_at_first="default").measure(FOUR, 1, 0, fresh=False)
    with pytest.raises(RunError, match="m@onnx with the default settings: 2 of 2 answers are wrong"):
        begun(load, wrong_at_first="default")()


def test_a_default_without_a_figure_is_asked_again_and_then_ends_the_search() -> None:
    load = FakeLoad({"default": 1.0, "candidate": 1000.0})

    with pytest.raises(RunError, match="meets 20 ms at no rate in 3 blocks: use a quieter machine, or raise --slo"):
        bench_of(load, FakeServices()).measure(FOUR, 2, 0, fresh=False)
    assert len(load.sent) == 6


@pytest.mark.parametrize(("goal", "rate"), [("rate", 0.0), ("latency", 100.0)])
@pytest.mark.parametrize("side", ["default", "candidate"])
def test_a_round_in_which_requests_fail_is_asked_again(side: str, goal: str, rate: float) -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0}, failing={side: range(2)})

    trial = bench_of(load, FakeServices(), goal, rate).measure(FOUR, 1, 0, fresh=False)

    assert (trial.out, len(trial.rounds), len(load.sent)) == ("", 1, 6)


def test_a_candidate_whose_requests_fail_in_each_block_is_out_and_a_default_ends_the_search() -> None:
    rates = {"default": 1000.0, "candidate": 1000.0}

    trial = bench_of(FakeLoad(rates, failing={"candidate": range(3)}), FakeServices()).measure(FOUR, 1, 0, fresh=False)

    assert trial.out == "all its requests fail (UNAVAILABLE)"
    with pytest.raises(RunError, match="with the default settings: all its requests fail"):
        bench_of(FakeLoad(rates, failing={"default": range(3)}), FakeServices()).measure(FOUR, 1, 0, fresh=False)


@pytest.mark.parametrize(
    ("default", "candidate", "out", "pairs"),
    [
        ([0, 1], [2], "", 4),
        ([0, 1], [2, 3], "", 5),
        ([0, 1], [2, 3, 4], "all its requests fail (UNAVAILABLE)", 5),
        ([2], [0, 1, 2], "all its requests fail (UNAVAILABLE)", 3),
    ],
)
def test_the_failing_blocks_of_each_side_are_counted_by_themselves(
    default: list[int], candidate: list[int], out: str, pairs: int
) -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0}, failing={"default": default, "candidate": candidate})

    trial = bench_of(load, FakeServices()).measure(FOUR, 1, 0, fresh=False)

    assert (trial.out, len(load.sent)) == (out, 2 * pairs)
    assert len({spec.turn.round for spec in load.sent}) == pairs


def test_a_candidate_whose_requests_fail_in_three_blocks_of_a_trial_is_out_in_whichever_rounds() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0}, failing={"candidate": [0, 1, 3, 4]})

    trial = bench_of(load, FakeServices()).measure(FOUR, 2, 0, fresh=False)

    assert trial == Trial(FOUR, (), "all its requests fail (UNAVAILABLE)")
    assert len(load.sent) == 8


class SlowToStart(FakeServices):
    """Services that do not start with any settings for so many times."""

    fails = 1

    def start(self, settings: Tuned | None) -> None:
        super().start(settings)
        if self.told.count(self.told[-1]) <= self.fails:
            raise StartError("port 1 is busy")


def test_a_default_that_does_not_start_is_started_once_more() -> None:
    services = SlowToStart()
    start_default(services)
    assert services.told == [("start", {}), ("stop",), ("start", {})]

    services = SlowToStart()
    services.fails = 2
    with pytest.raises(RunError, match="the default settings do not start: port 1 is busy"):
        start_default(services)


def test_a_candidate_that_does_not_start_is_started_once_more() -> None:
    services = SlowToStart()
    bench = bench_of(FakeLoad({"default": 1000.0, "candidate": 1000.0}), services)

    for candidate in (FOUR, (("max_in_flight", 16), *FOUR)):
        assert bench.measure(candidate, 1, 0, fresh=False).out == ""

    assert services.told == [
        ("start", {"threads": 4}),
        ("stop",),
        ("start", {"threads": 4}),
        ("stop", "gateway"),
        ("start", {"max_in_flight": 16, "threads": 4}),
        ("stop", "gateway"),
        ("start", {"max_in_flight": 16, "threads": 4}),
    ]


def test_a_default_that_does_far_less_than_before_is_loaded_from_a_lower_rate_on() -> None:
    load = FakeLoad({"default": 200.0, "candidate": 400.0})
    bench = bench_of(load, FakeServices())

    trial = bench.measure(FOUR, 2, 0, fresh=False)

    assert [round(each.candidate / each.default, 1) for each in trial.rounds] == [2.0, 2.0]
    assert [round(spec.rate) for spec in load.sent[::2]] == [333, 111, 67]
    assert bench.default_rate == pytest.approx(200.0, rel=0.1)


def test_a_candidate_that_keeps_up_at_no_rate_counts_as_the_lowest_that_was_tried() -> None:
    trial = bench_of(FakeLoad({"default": 1000.0, "candidate": 1.0}), FakeServices()).measure(FOUR, 1, 0, fresh=False)

    assert [round(each.default / each.candidate) for each in trial.rounds] == [3]


def test_a_precision_is_asked_for_as_the_path_that_it_is() -> None:
    load = FakeLoad({"default": 1000.0, "candidate": 1000.0})

    bench_of(load, FakeServices()).measure((("precision", "int8"),), 1, 0, fresh=False)

    asked = {spec.turn.measurement.side: str(spec.turn.measurement.path) for spec in load.sent}
    assert asked == {"default": "m@onnx", "candidate": "m@onnx:int8"}


@pytest.mark.parametrize(("candidate", "out"), [(400.0, False), (20.0, True)])
def test_at_a_steady_rate_the_latency_counts_and_the_objective_holds(candidate: float, *, out: bool) -> None:
    load = FakeLoad({"default": 200.0, "candidate": candidate})

    trial = bench_of(load, FakeServices(), "latency", 100.0).measure(FOUR, 2, 0, fresh=False)

    assert trial.out == ("its p99 is above 20 ms, the default's is not" if out else "")
    assert out or [round(each.candidate / each.default, 1) for each in trial.rounds] == [2.0, 2.0]


class FakeCaller:
    def __init__(self, service_us: float) -> None:
        self._service_us = service_us

    def ask(self, _: object) -> Any:
        return type("Sample", (), {"service_us": self._service_us})


def begun(load: FakeLoad, wrong_at_first: str = "") -> Callable[[], Bench]:
    bench = bench_of(load, FakeServices(), wrong_at_first=wrong_at_first)

    def begin() -> Bench:
        caller: Any = FakeCaller(1000.0)
        bench.begin(caller, [None] * 5)
        return bench

    return begin


def test_what_the_default_can_do_is_found_first() -> None:
    assert begun(FakeLoad({"default": 1500.0}))().default_rate == pytest.approx(1500, rel=0.1)


def test_a_default_that_meets_the_objective_at_no_rate_is_refused_with_the_fix() -> None:
    with pytest.raises(RunError, match="keeps a p99 below 20 ms at no rate with the default settings: raise --slo"):
        begun(FakeLoad({"default": 1.0}))()
