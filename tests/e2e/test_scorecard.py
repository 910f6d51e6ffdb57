"""`python -m loadtest.cost` on the real onnx_svc and gateway."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from report import schema
from tests.e2e import workplace
from tests.e2e.workplace import Workplace
from tests.said import read_until

pytestmark = pytest.mark.slow

RUN = "results/some-run"
SHORT = (RUN, "--paths=simple_nn@onnx", "--duration=0.2", "--quiet=0.2", "--starts=2")
# What such a service can need: a start below a minute, memory of some MiB to some GiB, CPU of microseconds to 20 ms.
LIMITS = {
    "install size": (50, 20_000),
    "start to first correct response": (0.05, 60),
    "idle memory": (10, 2000),
    "loaded memory": (10, 2000),
    "gateway loaded memory": (5, 1000),
    "server CPU, direct": (0.005, 20),
    "server CPU, via gateway": (0.005, 20),
    "gateway CPU": (0.005, 20),
}


@pytest.fixture
def here(tmp_path: Path, ready_made: Path) -> Iterator[Workplace]:
    place = workplace.make(tmp_path)
    (tmp_path / "artifacts").symlink_to(ready_made)
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "run.json").write_text("{}")
    yield place
    place.run("servepath.runner", "down")
    assert place.left() == []


def test_a_scorecard_is_added_to_the_run_and_nothing_goes_on_running(here: Workplace) -> None:
    code, text = here.run("loadtest.cost", *SHORT, "--price-per-hour=0.1", "--currency=EUR")
    assert code == 0, text
    content = schema.read(here.folder / RUN / "scorecard.json", "scorecard", missing="")
    (card,) = content["scorecard"]
    assert (card["model"], card["stack"], card["engine"]) == ("simple_nn", "onnx", "onnxruntime")
    values = {figure["name"]: figure["value"] for figure in card["figures"]}
    outside = [name for name, (low, high) in LIMITS.items() if not low < values[name] < high]
    assert outside == [], json.dumps(values)
    assert here.left() == []


def test_ctrl_c_stops_what_was_started_and_leaves_the_run_as_it_was(here: Workplace) -> None:
    before = here.folder / RUN / "scorecard.json"
    before.write_text('{"scorecard": []}')
    with here.start("loadtest.cost", *SHORT) as process:
        assert process.stdout is not None
        read_until(process, "onnx_svc: start 1 of 2")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert (process.returncode, said.splitlines()[-1]) == (
        130,
        "servepath cost: interrupted; the services that it started are stopped, the run is unchanged",
    )
    assert before.read_text() == '{"scorecard": []}'
    assert here.left() == []
