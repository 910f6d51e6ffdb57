"""A measurement by MLPerf LoadGen's Server scenario, in a process of its own.

`... -m studies.loadgen.loadgen JOB OUT`.

LoadGen (https://github.com/mlcommons/inference/tree/master/loadgen) draws the Poisson schedule, waits for each moment,
calls us in its own thread, and takes the time; we send, and tell it of each reply. Its latency is from the schedule on.
JOB is a Job as JSON, OUT the file for the rows: a step of `python -m studies.loadgen`, not for users.
"""

import gc
import itertools
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlperf_loadgen as mlperf
import pyarrow as pa
from pyarrow import parquet

from loadtest.calls import DEADLINE_S, Target
from loadtest.connection import MAX_REPLY_BYTES, header_block
from loadtest.payloads import Payload
from loadtest.priority import keep_on_time
from servepath.http2.drivers.blocking_driver import BlockingLink
from servepath.http2.replies import Metadata, Reply
from studies.loadgen.aim import aim, look_at
from studies.loadgen.instruments import Job
from studies.loadgen.rows import Seen, table

NS_PER_US = 1000


class Sut:
    """What LoadGen calls its system under test: requests go out on connections in turn, replies are kept in order."""

    def __init__(self, target: Target, payloads: Sequence[Payload], connections: int, count: int) -> None:
        self._target = target
        self._payloads = payloads
        self._links = itertools.cycle(
            [BlockingLink(target.address, MAX_REPLY_BYTES, DEADLINE_S) for _ in range(connections)]
        )
        self._blocks: dict[Metadata, bytes] = {}
        self._numbers = itertools.count()
        self._replies: list[tuple[int, Reply | None]] = [(0, None)] * count

    def issue(self, query: Any) -> None:
        """Send a query's one sample; LoadGen's thread calls."""
        for sample in query:
            number = next(self._numbers)
            done = partial(self._done, number, sample.index, sample.id)
            next(self._links).send(self._block(), self._payloads[sample.index].request, done)

    def answers(self) -> list[tuple[bool, bool]]:
        """Return (ok, wrong) of each query in order, once the test is over."""
        return [
            (False, False) if reply is None else look_at(self._target, self._payloads[index], reply)
            for index, reply in self._replies
        ]

    def _done(self, number: int, index: int, identity: int, reply: Reply) -> None:
        mlperf.QuerySamplesComplete([mlperf.QuerySampleResponse(identity, 0, 0)])
        self._replies[number] = (index, reply)

    def _block(self) -> bytes:
        metadata = self._target.metadata()
        if metadata not in self._blocks:
            target = self._target
            self._blocks[metadata] = header_block(target.address, target.method, metadata, DEADLINE_S)
        return self._blocks[metadata]


def run(job: Job) -> pa.Table:
    """Load the measurement and return its rows.

    Raises OSError, SettingsError, ArtifactError, ValueError for a broken record.
    """
    target, payloads = aim(job)
    gc.collect()
    gc.freeze()
    keep_on_time()  # before there are threads: they inherit it
    sut = Sut(target, payloads, job.connections, job.count)
    handle = mlperf.ConstructSUT(sut.issue, _nothing)
    library = mlperf.ConstructQSL(len(payloads), len(payloads), _nothing, _nothing)
    mlperf.StartTestWithLogSettings(handle, library, _settings(job), _log_settings(job.folder), "")
    mlperf.DestroyQSL(library)
    mlperf.DestroySUT(handle)
    seen = read_trace((job.folder / "mlperf_log_trace.json").read_text(), sut.answers())
    return table(seen, job.ramp_up)


def read_trace(text: str, answers: Sequence[tuple[bool, bool]]) -> list[Seen]:
    """Read LoadGen's own record of every sample. answers: (ok, wrong) of each query by its number.

    A sample's entry has "ts", when it was scheduled, in microseconds from the test's begin, and "issue_start_ns" and
    "complete_ns", when it was sent and completed, both from its schedule. Raises ValueError when samples are missing.
    """
    lines = text.splitlines()
    # Behind the events stands the moment, since 1970, from which their "ts" count.
    began_ns = next((int(float(line[5:].rstrip(",")) * NS_PER_US) for line in lines if line.startswith('"ts":')), 0)
    seen = []
    for line in lines:
        if not line.startswith('{"name":"Sample"') or '"complete_ns"' not in line:
            continue
        event = json.loads(line.rstrip(","))
        sent, done = event["args"]["issue_start_ns"], event["args"]["complete_ns"]
        due_ns = began_ns + int(event["ts"] * NS_PER_US)
        ok, wrong = answers[event["args"]["query_seq"]]
        seen.append(Seen(due_ns, due_ns + sent, (done - sent) / NS_PER_US, done / NS_PER_US, ok, wrong))
    if len(seen) != len(answers):
        raise ValueError(f"LoadGen's trace has {len(seen)} of {len(answers)} samples")
    return seen


def _settings(job: Job) -> Any:
    settings = mlperf.TestSettings()
    settings.scenario = mlperf.TestScenario.Server
    settings.mode = mlperf.TestMode.PerformanceOnly
    settings.server_target_qps = job.rate
    settings.server_target_latency_ns = int(DEADLINE_S * 1e9)  # LoadGen's own verdict is not asked for
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = job.count
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = job.seed
    return settings


def _log_settings(folder: Path) -> Any:
    settings = mlperf.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = False
    settings.enable_trace = True
    return settings


def _nothing(*_: object) -> None:
    """Do nothing: there is nothing to flush, load or unload."""


if __name__ == "__main__":
    parquet.write_table(run(Job.from_json(sys.argv[1])), sys.argv[2])
