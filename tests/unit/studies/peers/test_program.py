"""What is left of a run when one of its measurements fails, or Ctrl-C ends it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from servepath.protocols.probes import WrongAnswer
from studies.peers.figures import Measured
from studies.peers.h2load import LoadFailed
from studies.peers.measure import Bench
from studies.peers.processes import Servers
from studies.peers.program import by_setup, rates
from studies.peers.results import Result, Round
from studies.peers.rows import ROWS, SMALL, Row

CHOSEN = [row for row in ROWS if row.name in {"gateway-1x1", "onnx-1x1", "workers-2"}]


class Broken:
    """A way that cannot be measured."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def sample(self, _: object) -> None:
        raise self._error


@pytest.mark.parametrize("error", [WrongAnswer("row 1 is wrong"), LoadFailed("h2load did not end within 19 s")])
def test_a_tuning_that_fails_has_no_rate_and_ends_no_run(tmp_path: Path, error: Exception) -> None:
    bench = Bench(tmp_path, "0", 1.0, {SMALL: None}, Servers(tmp_path))
    assert rates(bench, Broken(error)) == {}


def test_setups_that_ended_are_kept_when_a_later_one_is_interrupted() -> None:
    kept = []

    def measured(name: str, rows: Sequence[Row]) -> tuple[list[Round], dict[str, str]]:
        if name != "proxy":
            raise KeyboardInterrupt
        return [{need: Measured(rate=10.0) for row in rows for need in row.needs}], {}

    def keep(found: Sequence[Result], rounds: Mapping[str, Sequence[Round]]) -> None:
        kept.append(([result.why for result in found], list(rounds)))

    with pytest.raises(KeyboardInterrupt):
        by_setup(CHOSEN, 2, measured, keep)
    assert kept == [(["", "missing: not measured yet", "missing: needs 4 cores, here are 2"], ["proxy"])]
