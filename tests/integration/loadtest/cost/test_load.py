"""The load under which a scorecard is measured, on a server in this process."""

from typing import Any

import pytest

from loadtest.cost.load import Plan, load, refuse_other_requests
from loadtest.loaded_run import LoadedRun
from servepath.settings import SettingsError
from tests.integration.loadtest.conftest import write_reference
from tests.integration.loadtest.test_run import environment

pytestmark = pytest.mark.slow


def plan(stand: Any, **facts: Any) -> Plan:
    return Plan(200.0, 0.2, stand.arguments, environment(), LoadedRun(stand.folder, facts))


def test_paths_are_loaded_that_may_not_be_compared(stand: Any) -> None:
    models = [f"[models.{name}]\ndefault = 'onnx'\n[models.{name}.stacks.onnx]\n" for name in ("line", "curve")]
    (stand.folder / "deployments.toml").write_text("".join(models))
    write_reference(stand.folder / "exports", "curve", slope=3.0)

    found = load(plan(stand), ["line@onnx", "curve@onnx"], "direct", {}, None)

    assert {one.path for one in found} == {("line", "onnx"), ("curve", "onnx")}
    assert {(one.engine, one.artifact) for one in found} == {(("test engine", "1.5"), "ab" * 32)}


def test_a_server_that_the_run_did_not_load_is_refused(stand: Any) -> None:
    who = {"engine": {"value": "tensorflow_model_server"}}
    another = plan(stand, fairness={"paths": {"line@onnx.direct": who}})

    with pytest.raises(SettingsError, match=r"line@onnx.direct: engine is test engine now and was tensorflow_"):
        load(another, ["line@onnx"], "direct", {}, None)


@pytest.mark.parametrize(("rows", "refused"), [(1, False), (2, True)])
def test_a_run_of_other_requests_is_refused(stand: Any, rows: int, *, refused: bool) -> None:
    shapes = [{"inputs": {"x": [rows, 2]}, "requests": 256 // rows}]
    model = {"expected": "the reference", "requests": 256 // rows, "shapes": shapes, "more_shapes": 0}
    run = LoadedRun(stand.folder, {"payloads": {"source": "reference", "models": {"line": model}}})

    if refused:
        with pytest.raises(SettingsError, match="has other requests of line: a scorecard is of one row of the ref"):
            refuse_other_requests(run, stand.folder / "exports", {"line"})
    else:
        refuse_other_requests(run, stand.folder / "exports", {"line"})
