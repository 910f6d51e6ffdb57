"""The server with an injected delay, without a server."""

import threading
from pathlib import Path

import pytest

from servepath.protocols.types import Tensor
from studies.injected_delay.injected import Delayed, delayed, main
from tests.engines import GatedEngine

X = (Tensor("x", "FP32", (1, 2), b"\x00\x00\x80\x3f\x00\x00\x00\x40"),)


class Clock:
    """Goes on by 400 ns whenever it is read."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        self.ns += 400
        return self.ns


def engine() -> GatedEngine:
    gate = threading.Event()
    gate.set()
    return GatedEngine(gate)


@pytest.mark.parametrize("delay_us", [0.0, 1.0, 20.7])
def test_a_call_is_answered_as_without_the_delay_and_takes_at_least_that_much_longer(delay_us: float) -> None:
    clock = Clock()
    assert Delayed(engine(), delay_us, clock).run(X, ["y"]) == engine().run(X, ["y"])
    assert 1000 * delay_us <= clock.ns - 400 <= 1000 * delay_us + 800


def test_every_reply_names_the_delay_and_no_delay_too() -> None:
    assert [delayed(lambda _: engine(), us)(Path()).name for us in (20.7, 0)] == [
        "gated with an injected delay of 20.7 us",
        "gated with an injected delay of 0 us",
    ]


@pytest.mark.parametrize("delay", ["-1", "151", "nan", "much"])
def test_a_delay_that_would_change_how_the_server_works_is_refused(
    delay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--delay-us", delay])
    assert "microseconds from 0 to 150 are needed" in capsys.readouterr().err


def test_more_than_one_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--delay-us", "1", "--port", "0", "--metrics-port", "0", "--workers", "2"]) == 1
    assert "--workers: an injected delay is for one process" in capsys.readouterr().err
