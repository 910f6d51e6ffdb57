import pytest

from loadtest.plan import ServingPath
from loadtest.run import RunError
from loadtest.tune.turns import in_turn

PATHS = [ServingPath("m", "onnx"), ServingPath("m", "litert")]


def run(signal: int | None) -> tuple[int, list[ServingPath]]:
    """Tune two paths, the first of which fails; return the exit code and those that began."""
    begun: list[ServingPath] = []

    def tune(path: ServingPath, _: float) -> int:
        begun.append(path)
        if path == PATHS[0]:
            raise RunError("no server")
        return 0

    return in_turn(PATHS, 600.0, tune, lambda: signal), begun


def test_a_path_that_fails_does_not_end_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(None) == (1, PATHS)
    assert capsys.readouterr().err == "servepath tune: m@onnx: no server\n"


def test_a_signal_while_a_failed_path_stops_its_services_ends_the_others_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(2) == (130, PATHS[:1])
    assert capsys.readouterr().err == "servepath tune: m@onnx: no server\n"


def test_a_signal_that_ended_a_path_is_the_exit_code_and_ends_the_others() -> None:
    begun: list[ServingPath] = []

    def tune(path: ServingPath, _: float) -> int:
        begun.append(path)
        return 15

    assert in_turn(PATHS, 600.0, tune, lambda: None) == 143
    assert begun == PATHS[:1]


def test_a_path_for_which_no_time_is_left_does_not_begin(capsys: pytest.CaptureFixture[str]) -> None:
    begun: list[ServingPath] = []

    def tune(path: ServingPath, _: float) -> int:
        begun.append(path)
        return 0

    assert (in_turn(PATHS, 0.0, tune, lambda: None), begun) == (1, [])
    said = "servepath tune: {}: no time left: give it more --budget\n"
    assert capsys.readouterr().err == "".join(said.format(path) for path in PATHS)
