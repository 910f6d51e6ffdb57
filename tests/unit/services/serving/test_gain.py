from services.serving.gain import FIRST_INTERVAL, LAP, MAX_INTERVAL, Gain


def run(gain: Gain, calls: int, fixed_s: float, row_s: float, rows: int = 8) -> float:
    """Give the part of `calls` calls that were merged ones, of a server with these costs per call and per row."""
    merged = 0
    for _ in range(calls):
        sent = rows if gain.merging else 1
        merged += gain.merging
        gain.saw(sent, fixed_s + row_s * sent, waited=True)
    return merged / calls


def test_merging_goes_on_where_a_call_costs_more_than_its_rows() -> None:
    assert run(Gain(2), 50 * LAP, fixed_s=1e-3, row_s=1e-5) > 0.8


def test_merging_stops_where_it_saves_nothing() -> None:
    assert run(Gain(2), 50 * LAP, fixed_s=0, row_s=1e-3) < 0.25


def test_the_other_way_is_tried_ever_more_rarely() -> None:
    gain = Gain(2)
    run(gain, 20_000 * LAP, fixed_s=1e-3, row_s=1e-5)
    assert run(gain, 2 * MAX_INTERVAL * LAP, fixed_s=1e-3, row_s=1e-5) > 0.99


def test_a_server_that_changes_is_noticed_both_ways() -> None:
    gain = Gain(2)
    run(gain, 100 * LAP, fixed_s=1e-3, row_s=1e-5)
    run(gain, 4 * MAX_INTERVAL * LAP, fixed_s=0, row_s=1e-3)
    assert run(gain, FIRST_INTERVAL * LAP, fixed_s=0, row_s=1e-3) < 0.5
    run(gain, 4 * MAX_INTERVAL * LAP, fixed_s=1e-3, row_s=1e-5)
    assert run(gain, FIRST_INTERVAL * LAP, fixed_s=1e-3, row_s=1e-5) > 0.5


def test_refusals_of_merged_calls_count_against_merging() -> None:
    gain = Gain(2)
    for number in range(50 * LAP):
        # Every other merged call is refused, and its rows come back one by one.
        merged = gain.merging and number % 9 == 0
        gain.saw(0 if merged else 1, 1e-3, waited=True)
    assert not gain.merging


def test_calls_that_did_not_wait_decide_nothing() -> None:
    gain = Gain(2)
    for _ in range(50 * LAP):
        gain.saw(1, 1e-3, waited=False)
        assert gain.merging


def test_laps_without_an_answer_decide_nothing() -> None:
    gain = Gain(2)
    for _ in range(50 * LAP):
        gain.saw(0, 1e-3, waited=True)
        assert gain.merging
