from collections import Counter
from pathlib import Path

import pytest

from loadtest.plan import NO_OP, Measurement, ServingPath
from report import crosscheck
from servepath.results.names import INSTRUMENTS
from studies.loadgen.instruments import Job, order
from studies.loadgen.rows import Seen, table

MEASUREMENTS = [
    Measurement(ServingPath("m", "onnx"), "direct"),
    Measurement(ServingPath("m", "onnx"), "gateway"),
    NO_OP,
]


def job(rate: float = 200.0, ramp_up: int = 3, requests: int = 7) -> Job:
    return Job(MEASUREMENTS[0], "", "m", rate, ramp_up, requests, 1, Path("exports"), Path(".env"), Path("folder"))


def test_every_instrument_loads_every_block_once_a_round_and_those_of_a_block_follow_one_another() -> None:
    found = list(order(MEASUREMENTS, 3, seed=1))
    assert set(Counter((turn.round, turn.measurement, name) for turn, name in found).values()) == {1}
    assert len(found) == 3 * len(MEASUREMENTS) * len(INSTRUMENTS)
    for start in range(0, len(found), len(INSTRUMENTS)):
        assert len({turn for turn, _ in found[start : start + len(INSTRUMENTS)]}) == 1


def test_the_order_of_the_instruments_is_drawn_again_and_the_same_seed_draws_the_same() -> None:
    found = list(order(MEASUREMENTS, 5, seed=1))
    firsts = {name for _, name in found[:: len(INSTRUMENTS)]}
    assert len(firsts) > 1
    assert found == list(order(MEASUREMENTS, 5, seed=1))


@pytest.mark.parametrize(("rate", "connections"), [(10, 4), (200, 4), (201, 5), (1000, 20)])
def test_no_connection_has_so_much_to_send_that_h2load_would_send_in_bursts(rate: float, connections: int) -> None:
    assert job(rate).connections == connections


def test_a_job_can_be_told_to_another_process() -> None:
    assert Job.from_json(job().to_json()) == job()


def test_the_first_requests_that_were_due_are_the_warm_up() -> None:
    seen = [Seen(due, sent, 1.0, 2.0, ok=True, wrong=False) for due, sent in ((30, 31), (10, 90), (20, 21))]
    assert table(seen, ramp_up=1).select(["phase", "scheduled_ns"]).to_pylist() == [
        {"phase": "warmup", "scheduled_ns": 10},
        {"phase": "measure", "scheduled_ns": 20},
        {"phase": "measure", "scheduled_ns": 30},
    ]


def test_the_report_knows_every_instrument() -> None:
    assert tuple(crosscheck.TIMES) == INSTRUMENTS
