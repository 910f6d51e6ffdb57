import json
from pathlib import Path

from studies.peers.figures import Measured, MedianInterval
from studies.peers.results import Result, result_of, save
from studies.peers.rows import ONE, RequiredMeasurement, Row

ROW = Row("gateway-4x8", "proxy", "gateway", "envoy", "m", ONE, threshold=1.1, target=1.5)
OURS, PEER = ROW.needs


def rounds(*pairs: tuple[float, float]) -> list[dict[RequiredMeasurement, Measured]]:
    return [{OURS: Measured(rate=ours), PEER: Measured(rate=peer)} for ours, peer in pairs]


def test_a_row_is_the_median_of_its_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    assert result_of(ROW, rounds((10, 10), (30, 20), (90, 30))) == Result(
        ROW, MedianInterval(1.0, 1.5, 3.0, 0.75), 30, 20
    )


def test_one_void_round_makes_the_row_void() -> None:
    spoilt = [*rounds((10, 10)), {OURS: Measured(void="refused"), PEER: Measured(rate=1)}]
    assert result_of(ROW, spoilt) == Result(ROW, why="void: refused", void=True)


def test_a_row_during_which_others_were_at_work_is_compared_with_nothing() -> None:
    busy = [{OURS: Measured(rate=30, others=0.4), PEER: Measured(rate=20)}]
    assert result_of(ROW, busy).verdict == "others: 0.40 cores"


def test_the_file_has_the_facts_the_rows_and_every_measurement(tmp_path: Path) -> None:
    measured = rounds((30, 20))
    save(tmp_path / "new" / "run.json", {"commit": "abc"}, [result_of(ROW, measured)], {"proxy": measured})
    written = json.loads((tmp_path / "new" / "run.json").read_text())
    (row,) = written["rows"]
    assert (written["commit"], row["name"], row["ratio"]["middle"], row["verdict"]) == (
        "abc",
        "gateway-4x8",
        1.5,
        "target",
    )
    found = [(one["setup"], one["round"], one["way"], one["load"], one["rate"]) for one in written["measurements"]]
    assert found == [("proxy", 1, "gateway", "1x1", 30), ("proxy", 1, "envoy", "1x1", 20)]
