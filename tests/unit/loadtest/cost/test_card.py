"""A path's card from what was measured: it obeys the published schema and says why what is missing is missing."""

import sys
from typing import Any

import pytest

from loadtest.cost import price
from loadtest.cost.card import card
from loadtest.cost.figures import MIB
from loadtest.cost.gpu import Reading
from loadtest.cost.load import Measurement
from loadtest.cost.program import GatewayCost, Life
from report import schema
from servepath.runner.config import Service

PATH, OTHER = ("simple_nn", "onnx"), ("keras_dense", "onnx")
ENGINE = ("onnxruntime", "1.31.1")
ON_GPU = (Reading({7: 100 * MIB, 8: 900 * MIB}, 40.0, 70.0), Reading({7: 300 * MIB}, 60.0, 90.0))


def measurement(path: tuple[str, str] = PATH, **changed: Any) -> Measurement:
    return Measurement(path, ENGINE, 1000, 0, {"onnx_svc": 0.2, "gateway": 0.3}, ())._replace(**changed)


def life(*measurements: Measurement) -> Life:
    starts = [{PATH: 0.5, OTHER: 0.75}, {PATH: 1.5, OTHER: 0.75}, {PATH: 0.25, OTHER: 0.75}]
    return Life(
        starts,
        70 * MIB,
        80 * MIB,
        measurements or (measurement(), measurement(OTHER), measurement(requests=3000)),
        frozenset({7}),
    )


def figures_of(
    of: Life, *, python: str = sys.executable, fronted: Measurement | None = None
) -> dict[str, dict[str, Any]]:
    service = Service("onnx_svc", (python, "-m", "services.onnx_svc"), "127.0.0.1:1", (1,), {})
    front = GatewayCost(30 * MIB, 40 * MIB, (measurement(OTHER), fronted or measurement()))
    content = card(PATH, service, of, front, list(price.figures(None, PATH, None)))
    mistakes = [error.message for error in schema.validator("scorecard").iter_errors({"scorecard": [content]})]
    assert mistakes == []
    assert (content["engine"], content["engine_version"]) == of.measurements[0].engine
    return {figure["name"]: figure for figure in content["figures"]}


def test_a_card_obeys_the_schema_and_holds_what_was_measured() -> None:
    found = figures_of(life())
    assert {name: found[name]["value"] for name in MEASURED} == MEASURED
    assert found["start to first correct response"]["note"] == (
        "median of 3 new processes, 0.25..1.50, warm page cache; the same process serves keras_dense@onnx"
    )
    assert "2 measurements, 4,000 requests, 0.067..0.200" in found["server CPU, direct"]["note"]
    assert found["server CPU, direct"]["values"] == [pytest.approx(0.2), pytest.approx(0.2 / 3)]
    assert "values" not in found["idle memory"]


MEASURED = {
    "start to first correct response": 0.5,
    "idle memory": 70.0,
    "loaded memory": 80.0,
    "gateway idle memory": 30.0,
    "gateway loaded memory": 40.0,
    "server CPU, direct": pytest.approx(0.1),
    "server CPU, via gateway": pytest.approx(0.2),
    "gateway CPU": pytest.approx(0.3),
}


def test_a_card_says_the_settings_of_each_way_and_the_artifact() -> None:
    direct, gateway = "tuned 1 for rate; onnx: threads 4", "tuned 1 for rate; onnx: threads 4; gateway: max_in_flight 8"
    service = Service("onnx_svc", (sys.executable, "-m", "services.onnx_svc"), "127.0.0.1:1", (1,), {})
    front = GatewayCost(30 * MIB, 40 * MIB, (measurement(settings=gateway),))
    found = card(PATH, service, life(measurement(settings=direct, artifact="ab")), front, ())
    assert (found["settings"], found["gateway_settings"]) == (direct, gateway)
    assert found["artifact"] == "ab"


def test_a_card_counts_the_wrong_answers_of_each_way() -> None:
    service = Service("onnx_svc", (sys.executable, "-m", "services.onnx_svc"), "127.0.0.1:1", (1,), {})
    front = GatewayCost(30 * MIB, 40 * MIB, (measurement(bad=3, wrong_answers=2), measurement(bad=1, wrong_answers=1)))
    found = card(PATH, service, life(), front, ())
    assert (found["wrong_answers"], found["gateway_wrong_answers"]) == (0, 3)


def test_a_machine_without_a_gpu_is_said() -> None:
    found = figures_of(life())
    assert {found[name]["note"] for name in found if name.startswith("GPU")} == {"no NVIDIA GPU"}


def test_of_a_gpu_the_services_own_memory_counts_and_means_of_the_rest() -> None:
    found = figures_of(life(measurement(gpu=ON_GPU), measurement(OTHER)))
    assert [found[name]["value"] for name in ("GPU memory", "GPU utilisation", "GPU power")] == [300, 50, 80]


def test_a_load_with_errors_has_no_cost() -> None:
    found = figures_of(life(), fronted=measurement(bad=2))
    note = "2 errors and incorrect responses under load"
    assert [found[name]["note"] for name in found if name in {"server CPU, via gateway", "gateway CPU"}] == [note] * 2
    assert found["server CPU, direct"]["value"] is not None


def test_a_service_under_another_python_has_no_install_size() -> None:
    found = figures_of(life(), python="/opt/python")
    assert (found["install size"]["value"], found["install size"]["note"]) == (
        None,
        "onnx_svc uses another Python, /opt/python",
    )


def test_the_product_itself_is_not_given_the_size_of_our_extra() -> None:
    path, cpu_s = ("keras_dense", "tfserving"), {"tf_svc": 0.2, "gateway": 0.3}
    one = measurement(path, engine=("tensorflow_model_server", "2.20.0"), cpu_s=cpu_s)
    service = Service("tf_svc", (sys.executable, "-m", "services.tf_svc"), "127.0.0.1:1", (1,), {})
    made = card(path, service, Life([{path: 0.5}], MIB, MIB, (one,), frozenset()), GatewayCost(MIB, MIB, (one,)), ())
    assert made["figures"][0]["note"] == "tensorflow_model_server is not installed by an extra"
