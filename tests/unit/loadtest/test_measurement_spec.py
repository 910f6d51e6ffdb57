import pytest

from loadtest.measurement_spec import MeasurementSpec
from loadtest.plan import Measurement, ServingPath, Turn

S = 10**9
MEASUREMENT = Measurement(ServingPath("m", "onnx"), "direct")
SPEC = MeasurementSpec(Turn(0, MEASUREMENT), "open-poisson", 500.0, 0, 500, 4, "s", workers=2, begin_ns=10 * S)


@pytest.mark.parametrize(
    ("began_ns", "ended_ns", "share"),
    [
        (9 * S, 11 * S, 0.9),  # the order came a second before it was due
        (10 * S + S // 2, 12 * S, 0.6),
        (9 * S, 9 * S + 1, 0.0),  # nothing to send for this worker
    ],
)
def test_the_wait_for_the_begin_is_no_part_of_the_time_that_a_worker_loads(
    began_ns: int, ended_ns: int, share: float
) -> None:
    assert SPEC.cpu_share(0.9, began_ns, ended_ns) == share
