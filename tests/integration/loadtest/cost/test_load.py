"""The load under which a scorecard is measured, on a server in this process."""

from typing import Any

import pytest

from loadtest.cost.load import Plan, load
from tests.integration.loadtest.conftest import write_reference
from tests.integration.loadtest.test_run import environment

pytestmark = pytest.mark.slow


def test_paths_are_loaded_that_may_not_be_compared(stand: Any) -> None:
    models = [f"[models.{name}]\ndefault = 'onnx'\n[models.{name}.stacks.onnx]\n" for name in ("line", "curve")]
    (stand.folder / "deployments.toml").write_text("".join(models))
    write_reference(stand.folder / "exports", "curve", slope=3.0)

    found = load(Plan(200.0, 0.2, stand.arguments, environment()), ["line@onnx", "curve@onnx"], "direct", {}, None)

    assert {one.path for one in found} == {("line", "onnx"), ("curve", "onnx")}
    assert {one.engine for one in found} == {("test engine", "1.5")}
