"""A run that nobody measured: rows and run.json as the load test writes them, drawn from a seed.

`python -m tests.synthetic_run FOLDER` writes a large one, to look at its report.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from loadtest.recorder import SCHEMA

RATE_RPS = 500.0
STARTED_NS = 1_763_888_400_000_000_000
WARMUP = 5
GATEWAY_US = 180
# Median of the service time in microseconds, direct.
MEDIANS_US = {"keras_dense@tfserving": 1100.0, "simple_nn@onnx": 700.0}
NULL_US = 210.0
ENGINES = {
    "tfserving": ("embedded", "tensorflow 2.21.0"),
    "onnx": ("onnxruntime", "1.31.1 (CPUExecutionProvider)"),
    "torchserve": ("torchserve", "0.12.0"),
    "null": ("", ""),
}
HOST = {
    "cpu": "synthetic: nobody measured this",
    "cores": 2,
    "memory_bytes": 25276502016,
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.1.0",
    "python": "3.11.7",
}


def write_run(
    folder: Path,
    *,
    seed: int = 7,
    rounds: int = 12,
    requests: int = 120,
    load_model: str = "open loop, poisson",
    medians_us: Mapping[str, float] = MEDIANS_US,
    sides: Mapping[str, float] | None = None,
) -> Path:
    """Write a complete run of `rounds` blocks of `requests` measured requests for each path, way and the null endpoint.

    One request in a hundred takes ten times as long. sides: each is a server of every path, reached direct, and so many
    times as slow.
    """
    random = np.random.default_rng(seed)
    names = [f"{path}.{via}" for path in medians_us for via in ("direct", "gateway")]
    names = [f"{path}.direct~{side}" for path in medians_us for side in sides] if sides else names
    names.append("null@null.direct")
    blocks, at_ns = [], STARTED_NS
    (folder / "rows").mkdir(parents=True)
    for number in range(rounds):
        for name in random.permutation(names).tolist():
            path, via, side = _parts(name)
            median_us = medians_us.get(path, NULL_US) * (sides or {}).get(side, 1)
            table = _table(random, folder.name, (number, path, via, side), median_us, (at_ns, requests))
            file = f"rows/r{number:02d}-{name}.parquet"
            parquet.write_table(table, folder / file, compression="zstd", write_statistics=False)
            blocks.append(_block(number, name, file, requests))
            at_ns += int((requests + WARMUP) / RATE_RPS * 1e9)
    facts = _facts(folder.name, seed, rounds, load_model, names)
    if load_model == "closed loop":
        _forget_schedule(folder)
    (folder / "run.json").write_text(json.dumps(facts | {"blocks": blocks, "complete": True}, indent=2) + "\n")
    return folder


def add_the_rest(folder: Path, medians_us: Mapping[str, float] = MEDIANS_US) -> None:
    """Add a capacity and a scorecard, as other commands would."""
    paths, cards = [], []
    for name, median_us in medians_us.items():
        model, _, stack = name.partition("@")
        most_rps = round(1.6e6 / median_us)
        steps = [
            (round(most_rps * share), median_us / 1e3 * 1.2 / (1.3 - share)) for share in (0.4, 0.6, 0.8, 1.0, 1.2)
        ]
        here = {"model": model, "stack": stack, "via": "direct", "cores": 1, "rate_rps": most_rps}
        here |= {"low_rps": round(most_rps * 0.95), "high_rps": round(most_rps * 1.05)}
        here["steps"] = [{"rate_rps": rate, "p99_ms": p99_ms, "met": rate <= most_rps} for rate, p99_ms in steps]
        over = {"goodput_rps": most_rps * 0.97, "refused_share": 0.3, "recovery_s": 0.4}
        paths.append(here | {"overload": [over | {"factor": factor} for factor in (1.5, 3)]})
        size = {"name": "install size", "value": 412.0, "unit": "MB", "note": "closure of the extra"}
        gpu = {"name": "GPU memory", "value": None, "unit": "MB", "note": "no GPU"}
        cards.append({"model": model, "stack": stack, "figures": [size, gpu]})
    (folder / "capacity.json").write_text(json.dumps({"capacity": {"slo_p99_ms": 12, "paths": paths}}))
    (folder / "scorecard.json").write_text(json.dumps({"scorecard": cards}))


def _table(
    random: np.random.Generator, run: str, block: tuple[int, str, str, str], median_us: float, when: tuple[int, int]
) -> pa.Table:
    (number, path, via, side), (at_ns, requests) = block, when
    count = WARMUP + requests
    model, _, stack = path.partition("@")
    scheduled_ns = at_ns + np.cumsum(random.exponential(1e9 / RATE_RPS, count)).astype(np.int64)
    late_us = np.round(random.lognormal(np.log(60), 0.5, count), 3)
    backend_us = median_us * random.lognormal(0, 0.15, count) * np.where(random.random(count) < 0.01, 10, 1)
    gateway_us = np.full(count, GATEWAY_US) + random.integers(0, 60, count) if via == "gateway" else np.zeros(count)
    service_us = np.round(backend_us + gateway_us + (90 if via == "gateway" else 0), 1)
    engine, engine_version = ENGINES[stack]
    nobody = stack == "null"
    columns: dict[str, Any] = {
        "run": [run] * count,
        "path": [path] * count,
        "model": [model] * count,
        "stack": [stack] * count,
        "via": [via] * count,
        "side": [side] * count,
        "round": [number] * count,
        "phase": ["warmup"] * WARMUP + ["measure"] * requests,
        "sent_ns": scheduled_ns + (late_us * 1e3).astype(np.int64),
        "scheduled_ns": scheduled_ns,
        "service_us": service_us,
        "response_us": service_us + late_us,
        "ok": [True] * count,
        "code": ["OK"] * count,
        "wrong": [False] * count,
        "rows": [1] * count,
        "version": [0 if nobody else 1] * count,
        "sha256": ["" if nobody else "ab" * 32] * count,
        "engine": [engine] * count,
        "engine_version": [engine_version] * count,
        "gateway_us": gateway_us.astype(np.int64) if via == "gateway" else [None] * count,
        "backend_us": backend_us.astype(np.int64) if via == "gateway" else [None] * count,
        "queue_us": gateway_us.astype(np.int64) // 4 if via == "gateway" else [None] * count,
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _parts(name: str) -> tuple[str, str, str]:
    """Give path, way and side of MODEL@STACK.VIA or MODEL@STACK.VIA~SIDE."""
    name, _, side = name.partition("~")
    path, _, via = name.rpartition(".")
    return path, via, side


def _named(name: str) -> dict[str, str]:
    path, via, side = _parts(name)
    model, _, stack = path.partition("@")
    return {"model": model, "stack": stack, "via": via} | ({"side": side} if side else {})


def _block(number: int, name: str, file: str, requests: int) -> dict[str, Any]:
    return {
        "round": number,
        **_named(name),
        "rows": file,
        "requests": requests,
        "errors": 0,
        "wrong_answers": 0,
        "seconds": requests / RATE_RPS,
        "generator_cpu": 0.21,
        "warmup_s": WARMUP / RATE_RPS,
        "warmup_requests": WARMUP,
        "clock": {"drift_us": 3.0},
    }


def _facts(run: str, seed: int, rounds: int, load_model: str, names: list[str]) -> dict[str, Any]:
    expected = [_named(name) for name in names]
    return {
        "synthetic": f"made by tests/synthetic_run.py with seed {seed}; nobody was measured",
        "schema": 2,
        "run": run,
        "started": "2026-11-23T09:00:00+00:00",
        "load_model": load_model,
        "rounds": rounds,
        "expected": expected,
        "seed": seed,
        "arguments": {"rate": RATE_RPS, "rounds": rounds, "seed": seed, "rows": 1},
        "host": HOST,
        "git_commit": "0" * 40,
        "clock": {"source": "tsc", "smallest_step_ns": 40, "timer": "timerfd"},
        "warmup": [block | {"seconds": 1.5, "requests": 750, "stable": True} for block in expected],
        "fairness": {"run": _run_keys(seed), "paths": {name: _path_keys(name) for name in names[:-1]}},
        "allowed": [],
    }


def _run_keys(seed: int) -> dict[str, Any]:
    return {
        "cpu_model": {"class": "must-equal", "value": HOST["cpu"]},
        "rate_rps": {"class": "must-equal", "value": RATE_RPS},
        "git_commit": {"class": "subject", "value": "0" * 40},
        "seed": {"class": "note", "value": seed},
    }


def _path_keys(name: str) -> dict[str, Any]:
    engine, engine_version = ENGINES[name.partition("@")[2].partition(".")[0]]
    return {
        "threads": {"class": "must-equal", "value": 1},
        "payload_sha256": {"class": "must-equal", "value": "cd" * 32},
        "engine": {"class": "subject", "value": f"{engine} {engine_version}"},
    }


def _forget_schedule(folder: Path) -> None:
    for path in (folder / "rows").glob("*.parquet"):
        table = parquet.read_table(path)
        for name in ("scheduled_ns", "response_us"):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pa.nulls(table.num_rows, table.schema.field(name).type))
        parquet.write_table(table, path, compression="zstd", write_statistics=False)


if __name__ == "__main__":
    FOUR = MEDIANS_US | {"keras_dense@onnx": 720.0, "simple_nn@torchserve": 3300.0}
    print(write_run(Path(sys.argv[1]), rounds=20, requests=670, medians_us=FOUR))
    add_the_rest(Path(sys.argv[1]), FOUR)
