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
NO_OP_US = 210.0
# Of one request after another, again and again.
REQUEST_BYTES = (36, 36, 420, 36, 4100)
VIAS = ("direct", "gateway")
PSS = "PSS of all its processes"
MEASUREMENTS = "scheduler's count over all processes: 3 blocks, 2,025 requests, 0.179..0.210"
# Of a scorecard: name, value, unit and note, as long as real ones are.
FIGURES: tuple[tuple[str, float | None, str, str], ...] = (
    ("install size", 412.4, "MiB", "files of 13 distributions: the extra and all it requires; Python not counted"),
    ("image size", None, "MiB", "docker is not installed"),
    ("start to first correct response", 0.404, "s", "median of 5 new processes, 0.39..0.42, warm page cache"),
    ("idle memory", 1370.1, "MiB", f"{PSS}, some seconds after the first answers"),
    ("loaded memory", 1465.1, "MiB", f"{PSS}, after the direct load"),
    ("gateway idle memory", 29.5, "MiB", f"{PSS}, beside the other servers of the run; one gateway for all paths"),
    ("gateway loaded memory", 33.1, "MiB", f"{PSS}, beside the other servers of the run, after the load of all paths"),
    ("server CPU, direct", 0.198, "s per 1,000 requests", MEASUREMENTS),
    ("server CPU, via gateway", 0.214, "s per 1,000 requests", MEASUREMENTS),
    ("gateway CPU", 0.269, "s per 1,000 requests", MEASUREMENTS),
    ("GPU memory", None, "MiB", "no NVIDIA GPU"),
    ("capacity per core, direct", 1143.0, "req/s", "capacity of 2,286 req/s at p99 below 12 ms, over the 2 cores"),
    ("price per million predictions, direct", 0.0122, "EUR", "0.1 EUR an hour, declared, at 2,286 req/s"),
)
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
    """Write a complete run: `rounds` measurements of `requests` requests for each path, way and the no-op server.

    One request in a hundred takes ten times as long. sides: each is a server of every path, reached direct, and so many
    times as slow.
    """
    random = np.random.default_rng(seed)
    names = [f"{path}.{via}" for path in medians_us for via in VIAS]
    names = [f"{path}.direct~{side}" for path in medians_us for side in sides] if sides else names
    names.append("null@null.direct")
    measurements, at_ns = [], STARTED_NS
    (folder / "rows").mkdir(parents=True)
    for number in range(rounds):
        for name in random.permutation(names).tolist():
            path, via, side = _parts(name)
            median_us = medians_us.get(path, NO_OP_US) * (sides or {}).get(side, 1)
            table = _table(random, folder.name, (number, path, via, side), median_us, (at_ns, requests))
            file = f"rows/r{number:02d}-{name}.parquet"
            parquet.write_table(table, folder / file, compression="zstd", write_statistics=False)
            measurements.append(_measurement(number, name, file, requests))
            at_ns += int((requests + WARMUP) / RATE_RPS * 1e9)
    facts = _facts(folder.name, seed, rounds, load_model, names)
    if load_model == "closed loop":
        _forget_schedule(folder)
    (folder / "run.json").write_text(
        json.dumps(facts | {"measurements": measurements, "complete": True}, indent=2) + "\n"
    )
    return folder


def add_the_rest(folder: Path, medians_us: Mapping[str, float] = MEDIANS_US) -> None:
    """Add a capacity and a scorecard, as other commands would, a day later and of another commit.

    The last path shows what a capacity can lack.
    """
    later = {"git_commit": "1" * 40 + "-dirty"}
    names = [(*name.partition("@")[::2], median_us) for name, median_us in medians_us.items()]
    paths = [_capacity(model, stack, median_us, via) for model, stack, median_us in names for via in VIAS]
    paths[-2] |= {"limit": "generator", "high_rps": None}
    paths[-1] |= {"limit": "time", "rate_rps": None, "low_rps": None, "high_rps": None, "overload": [], "null": None}
    capacity = later | {"started": "2026-11-24T09:00:00+00:00", "slo_p99_ms": 12, "wanted_rps": 2000, "paths": paths}
    (folder / "capacity.json").write_text(json.dumps({"capacity": capacity}))
    cards = [_card(*name) for name in names]
    about = later | {"measured": "2026-11-24T10:00:00+00:00", "rate_rps": RATE_RPS}
    scorecard = about | {"price": {"per_hour": 0.1, "currency": "EUR"}, "scorecard": cards}
    (folder / "scorecard.json").write_text(json.dumps(scorecard))


def _capacity(model: str, stack: str, median_us: float, via: str) -> dict[str, Any]:
    most_rps = round((1.6e6 if via == "direct" else 1.1e6) / median_us)
    steps = [(round(most_rps * share), median_us / 1e3 * 1.2 / (1.3 - share)) for share in (0.4, 0.6, 0.8, 1.0, 1.2)]
    over = {"goodput_rps": most_rps * 0.97, "refused_share": 0.3, "recovery_s": 0.4}
    codes = {"OK": 700, "RESOURCE_EXHAUSTED": 300}
    return {
        "model": model,
        "stack": stack,
        "via": via,
        "cores": 2,
        "limit": "server",
        "rate_rps": most_rps,
        "low_rps": round(most_rps * 0.95),
        "high_rps": round(most_rps * 1.05),
        "steps": [{"rate_rps": rate, "p99_ms": p99_ms, "met": rate <= most_rps} for rate, p99_ms in steps],
        "overload": [over | {"factor": factor, "codes": codes} for factor in (1.5, 3)],
        "null": {"rate_rps": most_rps, "p99_ms": 0.4, "late_share": 0, "generator_cpu": 0.3, "valid": True},
    }


def _card(model: str, stack: str, median_us: float) -> dict[str, Any]:
    """Return a card whose server takes CPU as long as a request takes, a few percent more or less."""
    engine, version = ENGINES[stack]
    figures: list[dict[str, Any]] = []
    for name, value, unit, note in FIGURES:
        figures.append({"name": name, "value": value, "unit": unit, "note": note})
        if value is not None and "CPU" in name:
            value_s = value if name.startswith("gateway") else value * median_us / 700
            figures[-1] |= {"value": value_s, "values": [value_s * share for share in (0.97, 1.0, 1.03)]}
    return {"model": model, "stack": stack, "engine": engine, "engine_version": version, "figures": figures}


def _table(
    random: np.random.Generator,
    run: str,
    measurement: tuple[int, str, str, str],
    median_us: float,
    when: tuple[int, int],
) -> pa.Table:
    (number, path, via, side), (at_ns, requests) = measurement, when
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
        "request_bytes": np.resize(REQUEST_BYTES, count).astype(np.int32),
        "reply_bytes": [96 if via == "gateway" else 64] * count,
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _parts(name: str) -> tuple[str, str, str]:
    """Return path, way and side of MODEL@STACK.VIA or MODEL@STACK.VIA~SIDE."""
    name, _, side = name.partition("~")
    path, _, via = name.rpartition(".")
    return path, via, side


def _named(name: str) -> dict[str, str]:
    path, via, side = _parts(name)
    model, _, stack = path.partition("@")
    return {"model": model, "stack": stack, "via": via} | ({"side": side} if side else {})


def _measurement(number: int, name: str, file: str, requests: int) -> dict[str, Any]:
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
        "schema": 3,
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
        "warmup": [measurement | {"seconds": 1.5, "requests": 750, "stable": True} for measurement in expected],
        "fairness": {"run": _run_keys(seed), "paths": {name: _path_keys(name) for name in names[:-1]}},
        "allowed": [],
        "payloads": _payloads(names),
    }


def _payloads(names: list[str]) -> dict[str, Any]:
    shapes = [{"inputs": {"x": [1, length]}, "requests": count} for length, count in ((2, 3), (98, 1), (1018, 1))]
    sent = {"expected": "the outputs in the file", "requests": 5, "shapes": shapes, "more_shapes": 0}
    models = dict.fromkeys(name.partition("@")[0] for name in names[:-1])
    return {"source": "file", "file": "requests.npz", "sha256": "cd" * 32, "models": dict.fromkeys(models, sent)}


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
        "precision": {"class": "must-equal", "value": "fp32"},
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
