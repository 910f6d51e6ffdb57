"""A shadow's stack is promoted step by step, goes back at the first difference, and a restart goes on where it was."""

import json
import logging
from pathlib import Path

import pytest

from servepath.protocols.deployments import Deployment, Deployments, DeploymentsError, GatewayLimits, Promote, Shadow
from servepath.protocols.types import Request
from services.dataplane.backend import Call
from services.gateway.promotion import BORNE, Promotion, refuse_promotion
from services.gateway.router import WeightedRouter
from services.gateway.verdicts import Shadows
from tests.serving_fakes import Keeping

AFTER = 10
RULE = Promote(AFTER, (1.0, 10.0, 100.0))
SHADOW = Shadow("b", 50.0, promote=RULE)
FILE = "m.shadow.json"


class Router:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.shifts: list[tuple[str, float]] = []

    def shift(self, name: str, percent: float) -> None:
        self.shifts.append((name, percent))


def promotion(folder: Path, shadow: Shadow = SHADOW, rule: Promote = RULE, weight: float = 0.0) -> Promotion:
    return Promotion("m", shadow, rule, weight, folder)


def record(one: Promotion, verdict: str, count: int = 1) -> None:
    for _ in range(count):
        one.record(verdict, "it is off" if verdict == "different" else "")


def test_each_step_takes_so_many_equal_answers_in_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, router = promotion(tmp_path), Router()
    one.lead(router)
    assert (one.state, one.percent) == ("waiting", 0)
    record(one, "equal", AFTER - 1)
    assert (one.state, one.percent) == ("waiting", 0)
    with caplog.at_level(logging.WARNING):
        record(one, "equal")
    assert (one.state, one.percent) == ("at 1 %", 1)
    assert caplog.messages == ["m@b gets 1 % of the calls for m from now on: 10 answers in a row were equal"]
    record(one, "equal", AFTER)
    assert (one.state, one.percent) == ("at 10 %", 10)
    record(one, "equal", 5 * AFTER)
    assert (one.state, one.percent) == ("promoted", 100)
    assert router.shifts == [("m@b", 0), ("m@b", 1), ("m@b", 10), ("m@b", 100)]


def test_calls_without_a_verdict_count_for_nothing(tmp_path: Path) -> None:
    one = promotion(tmp_path)
    record(one, "dropped", 100)
    record(one, "skipped", 100)
    assert one.state == "waiting"
    record(one, "equal", AFTER - 1)
    record(one, "failed")
    record(one, "equal")
    assert one.state == "at 1 %"


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_the_first_difference_leads_back_from_every_step_for_good(
    tmp_path: Path, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    one, router = promotion(tmp_path, weight=0.5), Router()
    record(one, "equal", steps * AFTER)
    before = one.percent
    one.lead(router)
    record(one, "different")
    assert (one.state, one.percent) == ("rolled back: an answer was different: it is off", 0.5)
    assert router.shifts == [("m@b", before), ("m@b", 0.5)]
    assert "m@b goes back from" in caplog.messages[-1]
    record(one, "equal", 10 * AFTER)
    record(one, "different")
    assert router.shifts == [("m@b", before), ("m@b", 0.5)]


def test_more_failed_and_late_calls_than_are_borne_lead_back(tmp_path: Path) -> None:
    one = promotion(tmp_path)
    record(one, "equal", AFTER)
    record(one, "failed", 3)
    record(one, "late", BORNE - 3)
    assert one.state == "at 1 %"
    record(one, "late")
    assert one.state == "rolled back: 6 of the last 10 calls failed or were late"


def test_failed_calls_of_long_ago_are_forgotten(tmp_path: Path) -> None:
    one = promotion(tmp_path, rule=Promote(AFTER, (100.0,)))
    for _ in range(20):
        record(one, "failed", BORNE)
        record(one, "equal", AFTER)
    assert one.state == "promoted"


def test_of_many_answers_one_in_a_hundred_may_fail(tmp_path: Path) -> None:
    one = promotion(tmp_path, rule=Promote(1000, (100.0,)))
    record(one, "failed", 10)
    assert one.state == "waiting"
    record(one, "failed")
    assert one.state == "rolled back: 11 of the last 11 calls failed or were late"


def test_a_failure_that_calls_share_is_one_failure_and_all_of_them_are_failed_calls(tmp_path: Path) -> None:
    def lose_sixteen() -> None:
        one.record("failed", "the reply was lost")
        for _ in range(15):
            one.record("failed", "the reply was lost", shared=True)

    one = promotion(tmp_path, rule=Promote(1000, (100.0,)))
    for _ in range(BORNE):
        lose_sixteen()
        assert one.state == "waiting"
    lose_sixteen()
    assert one.state == "rolled back: 81 of the last 81 calls failed or were late"


def test_a_restart_goes_on_at_the_step_with_a_new_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(promotion(tmp_path), "equal", AFTER + 5)
    with caplog.at_level(logging.INFO):
        again, router = promotion(tmp_path), Router()
    assert caplog.messages[-1] == f"m@b is at 1 %, by {tmp_path / FILE}"
    again.lead(router)
    assert router.shifts == [("m@b", 1)]
    record(again, "equal", AFTER - 1)
    assert again.state == "at 1 %"
    record(again, "equal")
    assert promotion(tmp_path).state == "at 10 %"


def test_a_restart_does_not_begin_again_after_a_difference_and_a_removed_file_does(tmp_path: Path) -> None:
    one = promotion(tmp_path)
    record(one, "equal", AFTER)
    record(one, "different")
    again = promotion(tmp_path)
    assert (again.state, again.percent) == (one.state, 0)
    (tmp_path / FILE).unlink()
    assert promotion(tmp_path).state == "waiting"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (Shadow("b", 51.0, promote=RULE), None),
        (Shadow("b", 50.0, promote=Promote(AFTER, (1.0, 100.0))), None),
        (SHADOW, "{"),
        (SHADOW, "[]"),
        (SHADOW, '{"table": "0", "steps_taken": 1, "rolled_back": ""}'),
    ],
)
def test_a_state_that_does_not_match_is_ignored_and_said(
    tmp_path: Path, changed: Shadow, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    record(promotion(tmp_path), "equal", AFTER)
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert promotion(tmp_path, changed).state == "waiting"
    assert f"{tmp_path / FILE} is ignored: " in caplog.messages[-1]


def test_more_steps_than_there_are_is_no_state(tmp_path: Path) -> None:
    record(promotion(tmp_path), "equal", AFTER)
    state = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(state | {"steps_taken": 4}))
    assert promotion(tmp_path).state == "waiting"


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(
        DeploymentsError, match=r"\[models.m.shadow.promote\] keeps its state in .* with --state or GATE"
    ):
        promotion(tmp_path / "state")


def test_a_state_that_cannot_be_kept_is_said_and_the_calls_go_back_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, router = promotion(tmp_path / "state"), Router()
    one.lead(router)
    (tmp_path / "state").rmdir()
    (tmp_path / "state").write_text("a file")
    record(one, "different")
    assert one.percent == 0
    assert "a restart would begin again" in caplog.messages[-1]


def test_several_processes_are_refused_a_promotion() -> None:
    model = Deployment("m", "a", {}, shadow=SHADOW)
    said = r"\[models.m.shadow.promote\] of d.toml counts answers in one process; start with --workers 1, or remove it"
    with pytest.raises(DeploymentsError, match=said):
        refuse_promotion(Deployments(Path("d.toml"), GatewayLimits(), (model,)))
    refuse_promotion(Deployments(Path("d.toml"), GatewayLimits(), (Deployment("m", "a", {}),)))


def test_every_router_that_is_in_use_is_led_and_one_of_a_failed_build_changes_nothing(tmp_path: Path) -> None:
    one, old, new = promotion(tmp_path), Router(), Router()
    one.lead(old)
    one.lead(Router())  # a file that turned out bad
    record(one, "equal", AFTER)
    one.lead(new)
    record(one, "different")
    assert old.shifts == [("m@b", 0), ("m@b", 1), ("m@b", 0)]
    assert new.shifts == [("m@b", 1), ("m@b", 0)]


def test_a_changed_weight_keeps_the_step_and_takes_another_part_of_the_rest(tmp_path: Path) -> None:
    model = Deployment("m", "a", {}, weights={"a": 99.5, "b": 0.5}, shadow=SHADOW)
    shadows = Shadows(tmp_path)
    verdicts = shadows.find(model, "b")
    assert verdicts is not None
    for _ in range(AFTER):
        verdicts.record("equal")
    changed = Deployment("m", "a", {}, weights={"a": 99.75, "b": 0.25}, shadow=SHADOW)
    again = Shadows(tmp_path, shadows)
    assert [again.weight_of(changed, stack) for stack in ("a", "b")] == [99, 1]
    found = again.find(changed, "b")
    assert found is not None
    found.record("different", 1.0, "it is off")
    assert [again.weight_of(changed, stack) for stack in ("a", "b")] == [99.75, 0.25]


def test_the_weights_that_are_shown_are_those_of_the_step(tmp_path: Path) -> None:
    model = Deployment("m", "a", {}, weights={"a": 60.0, "b": 0.0, "c": 40.0}, shadow=SHADOW)
    shadows = Shadows(tmp_path)
    verdicts = shadows.find(model, "b")

    def weights() -> dict[str, float]:
        return {stack: shadows.weight_of(model, stack) for stack in ("a", "b", "c")}

    assert verdicts is not None
    for _ in range(2 * AFTER):
        verdicts.record("equal")
    assert weights() == {"a": 54, "b": 10, "c": 36}
    verdicts.record("different", 1.0, "it is off")
    assert weights() == {"a": 60, "b": 0, "c": 40}


def names_of(router: WeightedRouter, keys: list[str]) -> list[str]:
    calls = [Call(Request("m", 0, ()), 0.0) for _ in keys]
    for call, key in zip(calls, keys, strict=True):
        call.key = key
        router.submit(call)
    return [call.name for call in calls]


def test_keys_move_to_the_path_that_rises_alone_and_back_to_where_they_were() -> None:
    weights = {"m@a": 50.0, "m@b": 5.0, "m@c": 45.0}
    router = WeightedRouter({name: Keeping() for name in weights}, weights)
    keys = [f"account-{number}" for number in range(4000)]
    first = before = names_of(router, keys)
    for percent in (5.0, 10.0, 40.0, 100.0):
        router.shift("m@b", percent)
        after = names_of(router, keys)
        assert all(new in {old, "m@b"} for old, new in zip(before, after, strict=True))
        assert after.count("m@b") == pytest.approx(len(keys) * percent / 100, rel=0.15)
        if 0 < percent < 100:
            assert after.count("m@a") / after.count("m@c") == pytest.approx(50 / 45, rel=0.15)
        before = after
    router.shift("m@b", 5.0)
    assert names_of(router, keys) == first
