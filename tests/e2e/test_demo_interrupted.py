"""Ctrl-C in any stage of `python -m servepath.demo`, or of compare: exit code 130, and nothing of it left."""

import signal

import pytest

from tests.e2e.workplace import Workplace
from tests.limits import LONG_S
from tests.said import read_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("train", "Epoch 1,"),
        ("export", "export  python -m export"),
        ("start", "listening"),
        ("load test", " measurements, open loop"),
        ("report", "report  python -m report"),
    ],
)
def test_ctrl_c_in_any_stage_ends_it_with_130_and_leaves_nothing(here: Workplace, stage: str, sign: str) -> None:
    with here.start("servepath.demo", "--duration", "0.7") as process:
        assert process.stdout is not None
        read_until(process, sign)
        process.send_signal(signal.SIGINT)
        text = process.stdout.read()
        code = process.wait(LONG_S)

    assert (stage, code) == (stage, 130), text
    assert text.splitlines()[-1] == "demo interrupted; the services that it started are stopped"
    assert "Traceback" not in text, text
    assert here.left() == []


def test_ctrl_c_while_it_predicts_and_again_while_it_stops_leaves_nothing_either(here: Workplace) -> None:
    with here.start("servepath.demo") as process:
        assert process.stdout is not None
        for sign in ("predict  python -m client", "stop  python -m servepath.runner down"):
            read_until(process, sign)
            process.send_signal(signal.SIGINT)
        text = process.stdout.read()
        code = process.wait(LONG_S)

    assert code == 130, text
    assert text.splitlines()[-1] == "demo interrupted; the services that it started are stopped"
    assert here.left() == []


def test_ctrl_c_of_compare_and_again_while_it_stops_leaves_nothing_either(here: Workplace) -> None:
    (file,) = (here.folder / "artifacts" / "exports" / "simple_nn" / "onnx").glob("*/*.onnx")
    with here.start("servepath.demo.compare", str(file), "--name", "mine") as process:
        assert process.stdout is not None
        for sign in ("ms per request, one at a time", "stop  python -m servepath.runner down"):
            read_until(process, sign)
            process.send_signal(signal.SIGINT)
        text = process.stdout.read()
        code = process.wait(LONG_S)

    assert code == 130, text
    assert text.splitlines()[-1] == "compare interrupted; the services that it started are stopped"
    assert here.left() == []


@pytest.mark.usefixtures("hangups_count")
def test_the_end_of_the_terminal_leaves_nothing_either(here: Workplace) -> None:
    with here.start("servepath.demo") as process:
        assert process.stdout is not None
        read_until(process, " measurements, open loop")
        process.send_signal(signal.SIGHUP)
        text = process.stdout.read()
        code = process.wait(LONG_S)

    assert (code, "Traceback" in text, "interrupted; the services" in text) == (130, False, False), text
    assert here.left() == []
