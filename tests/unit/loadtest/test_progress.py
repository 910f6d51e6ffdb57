import io
from typing import Any

from rich.console import Console

from loadtest.plan import Measurement, ServingPath, Turn, measurements_of
from loadtest.progress import Report

MEASUREMENTS = measurements_of([ServingPath("m", "onnx")], ("direct",))


def told(*, terminal: bool = False) -> tuple[Report, io.StringIO]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, highlight=False, width=120)
    return Report(console, len(MEASUREMENTS), rounds=2), output


def found(requests: int, errors: int = 0) -> dict[str, Any]:
    return {"requests": requests, "errors": errors, "wrong_answers": 1, "generator_cpu": 0.25}


def test_without_a_terminal_there_is_a_line_a_round() -> None:
    report, output = told()
    with report:
        for number in (0, 1):
            for measurement in MEASUREMENTS:
                report.loaded(Turn(number, measurement), found(600, errors=number))
    assert output.getvalue().splitlines() == [
        "round 1/2: 1,200 requests, 0 errors, 2 wrong, generator at most at 25% of a core",
        "round 2/2: 1,200 requests, 2 errors, 2 wrong, generator at most at 25% of a core",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_time_left() -> None:
    report, output = told(terminal=True)
    with report:
        report.warming(Measurement(ServingPath("m", "onnx"), "direct"))
        report.loaded(Turn(0, MEASUREMENTS[0]), found(600))
    assert "warm-up m@onnx direct" in output.getvalue()
    assert "round 1/2" in output.getvalue()
    assert "1/4" in output.getvalue()
    assert "left:" in output.getvalue()


def test_the_length_of_the_warm_up_is_said_and_so_is_a_path_that_did_not_settle() -> None:
    report, output = told()
    settled = {"model": "m", "stack": "onnx", "via": "direct", "seconds": 1.4, "stable": True}
    report.warmed([settled, settled | {"via": "gateway", "stable": False}])
    assert output.getvalue() == "warm-up: 3 s; not stable within the limit: m@onnx gateway\n"


def test_of_other_instruments_no_use_of_a_core_is_told() -> None:
    report, output = told()
    with report:
        for measurement in MEASUREMENTS:
            report.loaded(Turn(0, measurement), {"requests": 600, "errors": 0, "wrong_answers": 0})
    assert output.getvalue() == "round 1/2: 1,200 requests, 0 errors, 0 wrong\n"
