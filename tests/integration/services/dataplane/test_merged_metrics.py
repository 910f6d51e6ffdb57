"""The metrics of two processes as one, over real HTTP."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from threading import Thread
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.dataplane.counters import Counter, Durations
from services.dataplane.merged_metrics import OPEN_METRICS, MergedMetrics
from services.dataplane.metrics_server import MetricsServer, serve_metrics
from services.gateway.load import Load
from tests.limits import LONG_S
from tests.serving_fakes import Keeping, call

MODEL = ("model",)


def process(waiting: int) -> MetricsServer:
    """Serve what a process counts with one path that takes one call at a time and has that many more waiting."""
    registry = CollectorRegistry()
    Counter("calls", "Calls.", MODEL, registry=registry).labels("m").inc(waiting)
    took = Durations("took_seconds", "Took.", MODEL, buckets=(0.001, 1), registry=registry).labels("m")
    for us in (500, 2000):
        took.observe(us)
    took.exemplify(2000, {"trace_id": f"of {waiting}"})
    Gauge("merging", "Merging.", MODEL, registry=registry).labels("m").set(1)
    batcher = Batcher(Keeping(), BatchLimits(max_in_flight=1), BatchScope())
    Load(registry).paths = [batcher]
    for _ in range(waiting + 1):
        batcher.submit(call())
    return serve_metrics(registry, "127.0.0.1", 0)


@pytest.fixture
def processes() -> Iterator[dict[str, MetricsServer]]:
    servers = {"1": process(3), "2": process(5)}
    yield servers
    for server in servers.values():
        server.close()


def samples(merged: CollectorRegistry) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in generate_latest(merged).decode().splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in lines}


def samples_once(merged: CollectorRegistry, expected: Mapping[str, float]) -> dict[str, float]:
    """Return the samples once they are as expected: a process that does not answer in two seconds is left out."""
    deadline = time.monotonic() + LONG_S
    while (found := samples(merged)) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_what_counts_and_the_load_are_added_up_and_other_states_are_told_apart(
    processes: dict[str, MetricsServer],
) -> None:
    living = dict(processes)
    merged = CollectorRegistry()
    merged.register(MergedMetrics(lambda: {name: f"127.0.0.1:{server.port}" for name, server in living.items()}))
    counts = {
        'calls_total{model="m"}': 8,
        'took_seconds_bucket{le="0.001",model="m"}': 2,
        'took_seconds_bucket{le="1.0",model="m"}': 4,
        'took_seconds_bucket{le="+Inf",model="m"}': 4,
        'took_seconds_count{model="m"}': 4,
        'took_seconds_sum{model="m"}': 0.005,
    }
    cache = {'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}': 0}
    expected: dict[str, float] = {
        **counts,
        **cache,
        'merging{model="m",worker="1"}': 1,
        'merging{model="m",worker="2"}': 1,
        "nv_inference_pending_request_count": 8,
        'nv_trt_llm_request_metrics{request_type="waiting"}': 8,
        'nv_trt_llm_request_metrics{request_type="scheduled"}': 2,
    }
    assert samples_once(merged, expected) == expected
    # What a process had counted stays when it ends; its load is gone.
    del living["1"]
    expected = {
        **counts,
        **cache,
        'merging{model="m",worker="2"}': 1,
        "nv_inference_pending_request_count": 5,
        'nv_trt_llm_request_metrics{request_type="waiting"}': 5,
        'nv_trt_llm_request_metrics{request_type="scheduled"}': 1,
    }
    assert samples_once(merged, expected) == expected


@contextlib.contextmanager
def cut_short(body: bytes) -> Iterator[str]:
    """Yield the address of a process that dies when it has sent half of its one reply."""

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(2**16)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: len(body) // 2])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=answer, args=(listening,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(LONG_S)


def test_a_process_that_dies_amid_its_reply_costs_nobody_the_metrics(processes: dict[str, MetricsServer]) -> None:
    addresses = {name: f"127.0.0.1:{server.port}" for name, server in processes.items()}
    merged = CollectorRegistry()
    merged.register(MergedMetrics(lambda: addresses))
    whole = samples(merged)
    with cut_short(b"# EOF\n") as addresses["1"]:
        assert samples(merged) == whole


def test_the_merged_buckets_keep_an_exemplar_of_some_process(processes: dict[str, MetricsServer]) -> None:
    merged = CollectorRegistry()
    merged.register(MergedMetrics(lambda: {name: f"127.0.0.1:{server.port}" for name, server in processes.items()}))
    server = serve_metrics(merged, "127.0.0.1", 0)
    try:
        with urlopen(Request(f"http://127.0.0.1:{server.port}/metrics", headers=OPEN_METRICS), timeout=LONG_S) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))  # type: ignore[no-untyped-call]
    finally:
        server.close()
    (took,) = [family for family in families if family.name == "took_seconds"]
    exemplars = {each.labels["le"]: each.exemplar for each in took.samples if each.exemplar}
    assert list(exemplars) == ["1.0"]
    assert exemplars["1.0"].value == 0.002
    assert exemplars["1.0"].labels["trace_id"] in {"of 3", "of 5"}
