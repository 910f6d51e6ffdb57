"""A measurement by the load test itself: the same Generator, timer and scheduling as in `make loadtest`."""

from collections.abc import Mapping

import pyarrow as pa

from loadtest.calls import Clock
from loadtest.generator import Generator, Loaded
from loadtest.measurement_spec import MeasurementSpec
from loadtest.plan import Turn
from loadtest.priority import on_time
from loadtest.timer import Timer
from servepath.results.names import EVEN, OPEN_CONSTANT, OPEN_POISSON, POISSON
from studies.loadgen.instruments import Job
from studies.loadgen.rows import SCHEMA

LOAD_MODELS: Mapping[str, str] = {POISSON: OPEN_POISSON, EVEN: OPEN_CONSTANT}
LEAD_NS = 20_000_000


class Ours:
    """The generator of one kind of arrivals; its connections stay open until close()."""

    def __init__(self, arrivals: str, loaded: list[Loaded], connections: int, clock: Clock, timer: Timer) -> None:
        self._load_model = LOAD_MODELS[arrivals]
        self._clock = clock
        self._generator = Generator(loaded, connections, clock, timer)

    def close(self) -> None:
        """Close all connections."""
        self._generator.close()

    def run(self, job: Job) -> pa.Table:
        """Load the measurement and return its rows."""
        spec = MeasurementSpec(
            turn=Turn(0, job.measurement),
            load_model=self._load_model,
            rate=job.rate,
            ramp_up=job.ramp_up,
            requests=job.requests,
            connections=job.connections,
            seed=str(job.seed),
            workers=1,
            begin_ns=self._clock.now_ns() + LEAD_NS,
        )
        try:
            with on_time():
                recorder, _ = self._generator.run(spec, 0, lambda _: None)
        finally:
            self._generator.end()  # after Ctrl-C it would go on while the rest is cleaned up
        return recorder.table("").select(SCHEMA.names)
