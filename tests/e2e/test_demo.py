"""`python -m servepath.demo` for real.

Red when one answer in fifty is wrong, gone without what it did not start, and no stranger to a third model.
"""

import json
import signal
import sys

import numpy as np
import pytest
from onnx import numpy_helper

from servepath.runner.config import SERVICES
from tests.e2e.workplace import ROOT, Workplace
from tests.hostile_models import model, value
from tests.said import read_until

pytestmark = pytest.mark.slow


def test_a_backend_that_sometimes_answers_wrongly_turns_the_demo_red(here: Workplace) -> None:
    liar = here.folder / "liar"
    liar.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {ROOT}/tests/e2e/lying_onnx_svc.py "$@"\n')
    liar.chmod(0o755)
    code, text = here.run("servepath.demo", "--duration", "0.7", ONNX_SVC_PYTHON=str(liar))

    assert code == 1, text
    assert text.splitlines()[-1].startswith("demo failed: report ended with exit code 1")
    rows = json.loads((here.folder / "results" / "latest" / "summary.json").read_text())["paths"]
    wrong = {f"{row['model']}@{row['stack']}" for row in rows if row["wrong_answers"]}
    assert wrong == {f"{row['model']}@onnx" for row in rows if row["stack"] == "onnx"} != set()
    assert here.left() == []


def test_the_demo_leaves_a_service_alone_that_ran_before(here: Workplace) -> None:
    code, text = here.run("servepath.runner", "up")
    assert code == 0, text
    before = {name: here.process(name) for name in SERVICES}
    with here.start("servepath.demo") as process:
        assert process.stdout is not None
        read_until(process, "predict: ")
        process.send_signal(signal.SIGINT)
        process.stdout.read()

    assert process.returncode == 130
    assert {name: here.process(name) for name in SERVICES} == before


def test_a_model_that_computes_something_else_is_asked_its_own_inputs_and_not_loaded(here: Workplace) -> None:
    listed = here.folder / "deployments.toml"
    listed.unlink()  # a link, to the list that all share
    listed.write_text((ROOT / "deployments.toml").read_text())
    three = numpy_helper.from_array(np.ones((3, 1), np.float32), "w")
    file = here.folder / "mine.onnx"
    file.write_bytes(model(inputs=[value("x", ["n", 3])], weights=[three]).SerializeToString())
    code, text = here.run("export.importing", str(file), "--name", "mine")
    assert code == 0, text
    code, text = here.run("servepath.demo", "--rate", "200")

    assert code == 0, text
    assert "predict  python -m client predict mine@onnx " in text
    assert "not loaded, since their models compute something else: mine@onnx\n" in text
    rows = json.loads((here.folder / "results" / "latest" / "summary.json").read_text())["paths"]
    assert {row["model"] for row in rows} == {"simple_nn", "keras_dense"}
    assert here.left() == []
