from services.dataplane.batching_controller import FIRST_INTERVAL, MAX_INTERVAL, WINDOW_CALLS, BatchingController


def run(controller: BatchingController, calls: int, fixed_s: float, row_s: float, rows: int = 8) -> float:
    """Return the part of `calls` calls that were merged ones, of a server with these costs per call and per row."""
    merged = 0
    for _ in range(calls):
        sent = rows if controller.merging else 1
        merged += controller.merging
        controller.record(sent, fixed_s + row_s * sent, waited=True)
    return merged / calls


def test_merging_goes_on_where_a_call_costs_more_than_its_rows() -> None:
    assert run(BatchingController(2), 50 * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5) > 0.8


def test_merging_stops_where_it_saves_nothing() -> None:
    assert run(BatchingController(2), 50 * WINDOW_CALLS, fixed_s=0, row_s=1e-3) < 0.25


def test_the_other_way_is_tried_ever_more_rarely() -> None:
    controller = BatchingController(2)
    run(controller, 20_000 * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5)
    assert run(controller, 2 * MAX_INTERVAL[False] * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5) > 0.99


def test_merging_is_tried_again_within_a_thousand_calls() -> None:
    controller = BatchingController(2)
    run(controller, 20_000 * WINDOW_CALLS, fixed_s=0, row_s=1e-3)
    assert run(controller, (MAX_INTERVAL[True] + 2) * WINDOW_CALLS, fixed_s=0, row_s=1e-3) > 0
    assert run(controller, (MAX_INTERVAL[True] + 2) * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5) > 0


def test_the_first_calls_of_a_server_decide_nothing() -> None:
    controller = BatchingController(2)
    run(controller, WINDOW_CALLS, fixed_s=1.0, row_s=0, rows=2)
    assert run(controller, 50 * WINDOW_CALLS, fixed_s=1e-3, row_s=0, rows=2) > 0.8


def test_merged_calls_that_cost_much_at_first_are_soon_tried_and_taken_again() -> None:
    """As behind a JVM that compiles while merged calls are measured, and has compiled when lone ones are."""
    controller, costly = BatchingController(2), 2 * WINDOW_CALLS
    for _ in range((FIRST_INTERVAL + 5) * WINDOW_CALLS):
        controller.record(
            2 if controller.merging else 1, 20e-3 if controller.merging and costly > 0 else 1e-3, waited=True
        )
        costly -= controller.merging
    assert run(controller, FIRST_INTERVAL * WINDOW_CALLS, fixed_s=1e-3, row_s=0, rows=2) > 0.8


def test_after_a_trial_that_pays_the_way_is_kept_for_a_while() -> None:
    controller = BatchingController(2)
    run(controller, 200 * WINDOW_CALLS, fixed_s=0, row_s=1e-3)
    assert not controller.merging
    while not controller.merging:
        run(controller, 1, fixed_s=1e-3, row_s=0)
    assert run(controller, FIRST_INTERVAL * WINDOW_CALLS, fixed_s=1e-3, row_s=0) == 1


def test_a_server_that_changes_is_noticed_both_ways() -> None:
    controller = BatchingController(2)
    run(controller, 100 * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5)
    run(controller, 4 * MAX_INTERVAL[False] * WINDOW_CALLS, fixed_s=0, row_s=1e-3)
    assert run(controller, FIRST_INTERVAL * WINDOW_CALLS, fixed_s=0, row_s=1e-3) < 0.5
    run(controller, 4 * MAX_INTERVAL[True] * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5)
    assert run(controller, FIRST_INTERVAL * WINDOW_CALLS, fixed_s=1e-3, row_s=1e-5) > 0.5


def test_refusals_of_merged_calls_count_against_merging() -> None:
    controller = BatchingController(2)
    for number in range(50 * WINDOW_CALLS):
        # Every other merged call is refused, and its rows come back one by one.
        merged = controller.merging and number % 9 == 0
        controller.record(0 if merged else 1, 1e-3, waited=True)
    assert not controller.merging


def test_calls_that_did_not_wait_decide_nothing() -> None:
    controller = BatchingController(2)
    for _ in range(50 * WINDOW_CALLS):
        controller.record(1, 1e-3, waited=False)
        assert controller.merging


def test_laps_without_an_answer_decide_nothing() -> None:
    controller = BatchingController(2)
    for _ in range(50 * WINDOW_CALLS):
        controller.record(0, 1e-3, waited=True)
        assert controller.merging


def test_calls_that_fail_are_no_first_calls_of_a_server() -> None:
    controller = BatchingController(2)
    for _ in range(WINDOW_CALLS):
        controller.record(0, 1.0, waited=True)
    run(controller, WINDOW_CALLS, fixed_s=1.0, row_s=0, rows=2)
    assert run(controller, WINDOW_CALLS, fixed_s=1e-3, row_s=0, rows=2) == 1


def test_the_first_calls_after_a_restart_decide_nothing() -> None:
    controller = BatchingController(2)
    run(controller, WINDOW_CALLS, fixed_s=1e-3, row_s=0, rows=2)
    controller.restart()
    run(controller, WINDOW_CALLS, fixed_s=1.0, row_s=0, rows=2)
    assert run(controller, WINDOW_CALLS, fixed_s=1e-3, row_s=0, rows=2) == 1
