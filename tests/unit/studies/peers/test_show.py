from report.document import Detail
from studies.peers import show
from studies.peers.figures import MedianInterval
from studies.peers.results import Result
from studies.peers.rows import ROWS
from tests.unit.report.plain import plain


def test_a_measured_row_is_shown_with_its_ratio_and_a_missing_one_with_its_reason() -> None:
    measured = Result(ROWS[0], MedianInterval(0.9, 1.25, 1.5, 0.95), ours=2000.4, peer=1600.0)
    lines = plain(show.table([measured, Result(ROWS[1], why="missing: no envoy here")], 5), Detail.USUAL).splitlines()
    (row,) = [line for line in lines if line.startswith(ROWS[0].name)]
    assert " 2,000" in row
    assert " 1.25 0.90..1.50 " in row
    assert lines[-1] == f"{ROWS[1].name}: missing: no envoy here"
    assert "medians of 5 interleaved rounds" in lines


def test_the_machine_and_its_layout_are_shown() -> None:
    document = show.layout({"cpu": "a processor", "cores": 2, "memory_bytes": 2**34}, ["proxy: core 0"])
    assert plain(document).split("\n")[:2] == ["a processor, 2 cores, 16 GiB", "proxy: core 0"]
