from studies.peers.figures import FIGURES
from studies.peers.rows import ONE, ROWS, SWEEP
from studies.peers.setups import SETUPS


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_every_row_names_a_setup_and_a_figure_that_there_are() -> None:
    assert [row.name for row in ROWS if row.setup not in SETUPS or row.figure not in FIGURES] == []


def test_medians_are_asked_for_only_where_every_request_is_logged() -> None:
    assert {row.load for row in ROWS if row.figure == "p50"} == {ONE}


def test_a_goal_is_never_easier_than_its_floor() -> None:
    aims = [(row, row.threshold, row.target) for row in ROWS if row.threshold is not None and row.target is not None]
    assert [r.name for r, threshold, target in aims if (target < threshold) == FIGURES[r.figure].more_is_better] == []


def test_a_row_with_a_base_needs_three_measurements() -> None:
    row = next(row for row in ROWS if row.base)
    assert [need.way for need in row.needs] == [row.ours, row.peer, row.base]


def test_the_sweep_goes_from_no_batches_to_256() -> None:
    sizes = {tuning.batch_size for tuning in SWEEP}
    assert (min(sizes), max(sizes), len(set(SWEEP))) == (1, 256, len(SWEEP))
