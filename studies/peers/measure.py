"""One measurement: sampled answers, the server's counters, h2load for a known number of requests, and both again."""

from pathlib import Path
from time import monotonic
from typing import NamedTuple

import psutil

from servepath.artifacts.reference import Reference
from servepath.protocols.probes import WrongAnswer
from studies.peers import h2load
from studies.peers.figures import Measured, why_void
from studies.peers.processes import Servers, cpu_ns, machine_cpu_s, pinned
from studies.peers.rows import ONE, Load, RequiredMeasurement
from studies.peers.static import Static
from studies.peers.ways import Way, difference

PILOT_S = 1
MIN_REQUESTS = 200


class Bench(NamedTuple):
    """What all measurements of a setup share. cores: where h2load runs. seconds: how long one should take."""

    folder: Path
    cores: str
    seconds: float
    references: dict[str, Reference]
    servers: Servers


def pilot(bench: Bench, way: Way | Static, need: RequiredMeasurement) -> int:
    """Warm up under the need's load and return how many requests take about the wanted seconds.

    Raises WrongAnswer or LoadFailed.
    """
    model = bench.references[need.model]
    way.sample(model)
    counted = _load(bench, way.aim(model, bench.folder), need.load, PILOT_S, "-D", str(PILOT_S))
    return max(MIN_REQUESTS, int(counted.rate * bench.seconds))


def measure(bench: Bench, way: Way | Static, need: RequiredMeasurement, sent: int) -> Measured:
    """Measure once; what does not count says why in `void`."""
    try:
        return _measure(bench, way, need, sent)
    except (WrongAnswer, h2load.LoadFailed, OSError, psutil.Error) as error:
        return Measured(void=str(error))


def _measure(bench: Bench, way: Way | Static, need: RequiredMeasurement, sent: int) -> Measured:
    model = bench.references[need.model]
    sizes = way.sample(model)
    aim, log = way.aim(model, bench.folder), bench.folder / "requests.log"
    # Logging every request costs the generator time: only where a median is wanted, one request after another.
    more = ("--log-file", str(log)) if need.load == ONE else ()
    begin, others = monotonic(), machine_cpu_s() - bench.servers.cpu_s()
    codes, cpu = way.codes(), cpu_ns(way.process.pid)
    counted = _load(bench, aim, need.load, bench.seconds, "-n", str(sent), *more)
    cpu, codes = cpu_ns(way.process.pid) - cpu, difference(codes, way.codes())
    others = (machine_cpu_s() - bench.servers.cpu_s() - others) / (monotonic() - begin)
    way.sample(model)
    p50_us = h2load.median_us(log.read_text()) if more else None
    log.unlink(missing_ok=True)
    void = why_void(sent, counted, sizes, codes)
    return Measured(counted.rate, counted.mean_us, p50_us, cpu / 1000 / sent, sent, others, void)


def _load(bench: Bench, aim: h2load.Aim, load: Load, seconds: float, *more: str) -> h2load.Counted:
    return h2load.run(pinned(bench.cores, h2load.words(aim, load, *more)), seconds)
