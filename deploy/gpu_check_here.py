"""What the services that run on this machine do on its GPU: `servepath gpu-check --here`, after `make up`.

A row for each path: engine and device, precision, difference from the model's reference, rows a second by one caller
with one row per call and by several with as many rows as the gateway merges, the same in onnx_svc's engine without a
server, and the GPU memory of its service by NVIDIA's own count.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from deploy.engine import EngineError
from servepath.artifacts.manifest import artifact_folder, current_version
from servepath.artifacts.reference import read_reference
from servepath.protocols import servepath
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.errors import ServeError
from servepath.protocols.paths import PathInfo
from servepath.protocols.probes import NotReady, ProbeClient, probe_request, reduced_spec
from servepath.protocols.stacks import PATH_STACKS
from servepath.runner.config import RunPaths
from servepath.runner.probe import Probe
from servepath.runner.processes import ServiceFiles, members

CALLERS, CEILING_S = 4, 120.0
CEILING = "services.onnx_svc.ceiling"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one path. rates: rows a second with 1 and with `limit` a call; ceiling: without a server."""

    path: PathInfo
    limit: int
    rates: tuple[float, float]
    ceiling: tuple[float, float] | None
    memory_mib: int

    @property
    def on_cpu(self) -> str:
        """Return why the path's service is not on a GPU, "" where it is, or where its stack computes on none."""
        stack = PATH_STACKS[self.path.stack]
        if not stack.has_cuda:
            return ""
        if stack.cuda_mark not in self.path.engine_version:
            return f"{self.path.name} computes with {self.path.engine_version}, not {stack.cuda_mark}"
        return "" if self.memory_mib else f"{self.path.name}: its service holds no GPU memory"


def measure(run_paths: RunPaths, address: str, memory: dict[int, int], seconds: float) -> list[Row]:
    """Return a row for each path of ours, having predicted on it. Raises NotReady, WrongAnswer, EngineError."""
    deployments = read_deployments(run_paths.deployments)
    rows = []
    with Probe(address, run_paths.exports) as probe:
        ours = [path for path in probe.paths() if path.stack in PATH_STACKS]
        for path in ours:
            probe.ask(path)
        names = {path.name for path in ours}
        for path in [path for path in probe.paths() if path.name in names]:
            spec = (
                reduced_spec(run_paths.exports, path.model, path.stack)
                or read_reference(run_paths.exports, path.model).spec
            )
            limits = deployments.paths.get((path.model, path.stack))
            if limits is None:
                raise EngineError(
                    f"{path.name} is not in {run_paths.deployments}: give the gateway's file, --deployments FILE"
                )
            limit = spec.max_rows(limits.max_merge_rows) if spec.by_rows else 1
            rates = tuple(_rate(address, run_paths.exports, path, count, seconds) for count in (1, limit))
            ceiling = _ceiling(run_paths.exports, path, limit, seconds)
            own = members(ServiceFiles(run_paths.run_dir, PATH_STACKS[path.stack].service))
            held = sum(memory.get(process.pid, 0) for process in own)
            rows.append(Row(path, limit, (rates[0], rates[1]), ceiling, held))
    return rows


def table(rows: Sequence[Row], device: str) -> Table:
    """Return the figures as a table."""
    made = Table(title=device, title_justify="left")
    for column in (
        "path",
        "engine",
        "precision",
        "off by",
        "rows/s: 1",
        "at the limit",
        "in process: 1",
        "limit",
        "GPU MiB",
    ):
        made.add_column(column, justify="left" if column in {"path", "engine", "precision"} else "right")
    for row in rows:
        ceiling = [f"{rate:,.0f}" for rate in row.ceiling] if row.ceiling else ["-", "-"]
        off = "-" if row.path.difference is None else f"{row.path.difference:.1g}"
        made.add_row(
            row.path.name,
            f"{row.path.engine} {row.path.engine_version}",
            row.path.precision,
            off,
            f"{row.rates[0]:,.0f}",
            f"{row.rates[1]:,.0f} ({row.limit})",
            *ceiling,
            str(row.memory_mib),
        )
    return made


def _rate(address: str, exports: Path, path: PathInfo, rows: int, seconds: float) -> float:
    """Return rows a second: by one caller with one row per call, by CALLERS with more. Raises NotReady."""
    reference = read_reference(exports, path.model)
    pick = np.arange(rows) % reference.rows if reference.spec.by_rows else ...
    payload = servepath.encode_request(probe_request(reference, pick).request, path.name, 0)
    calls, failures = [0] * (CALLERS if rows > 1 else 1), list[Exception]()
    begin = time.perf_counter()

    def work(caller: int) -> None:
        try:
            with ProbeClient(address) as client:
                while time.perf_counter() - begin < seconds:
                    client.call(servepath.METHOD, payload)
                    calls[caller] += 1
        except (NotReady, ServeError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise NotReady(f"{path.name}: {failures[0]}")
    return rows * sum(calls) / (time.perf_counter() - begin)


def _ceiling(exports: Path, path: PathInfo, limit: int, seconds: float) -> tuple[float, float] | None:
    """Return the same in process, None for an engine that is not onnx_svc's. Raises EngineError."""
    stack = PATH_STACKS[path.stack]
    if stack.service != CEILING.split(".")[1]:
        return None
    folder = artifact_folder(exports, path.model, stack.artifact_format, current_version(exports, path.model))
    words = [sys.executable, "-m", CEILING, str(folder), "--seconds", str(seconds), "--rows", "1", str(limit)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=CEILING_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{path.name} takes more than {CEILING_S:g} s in process: give it fewer --seconds") from error
    if done.returncode:
        raise EngineError(done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout)["rows_per_second"]
    return found["1"], found[str(limit)]
