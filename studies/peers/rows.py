"""The rows of the benchmark: what is compared with what, under which load, and what is hoped for."""

from typing import NamedTuple


class Load(NamedTuple):
    """Connections, and requests in flight on each of them."""

    connections: int
    streams: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


class RequiredMeasurement(NamedTuple):
    """What is measured once a round: one way to one model under one load."""

    way: str
    model: str
    load: Load


class Row(NamedTuple):
    """One comparison.

    setup: the servers that run together (setups.py). ours, peer: two ways of that setup. figure: what is divided, a key
    of figures.FIGURES. threshold, target: at least so much of a rate, at most so much of a time; None where none was
    set. base: the way whose time is subtracted from both before the division. cores: a machine needs so many for it.
    """

    name: str
    setup: str
    ours: str
    peer: str
    model: str
    load: Load
    figure: str = "rate"
    threshold: float | None = None
    target: float | None = None
    base: str = ""
    cores: int = 2

    @property
    def needs(self) -> tuple[RequiredMeasurement, ...]:
        """Return the measurements that the row requires."""
        ways = (self.ours, self.peer, self.base) if self.base else (self.ours, self.peer)
        return tuple(RequiredMeasurement(way, self.model, self.load) for way in ways)


# What is asked: the first model of deployments.toml that every setup can serve (8 bytes a request as shipped), and the
# bench's own models of 4 KiB and 600 KB.
SMALL, MIDDLE, LARGE = "small", "bench_4k", "bench_600k"
ONE, SOME, MANY, WIDE = Load(1, 1), Load(4, 8), Load(8, 32), Load(4, 4)

ROWS = (
    Row("gateway-added", "proxy", "gateway", "envoy", SMALL, ONE, "p50", threshold=1.5, target=1.0, base="direct"),
    Row("gateway-1x1", "proxy", "gateway", "envoy", SMALL, ONE),
    Row("gateway-4x8", "proxy", "gateway", "envoy", SMALL, SOME, threshold=1.1, target=1.5),
    Row("gateway-8x32", "proxy", "gateway", "envoy", SMALL, MANY, threshold=1.4, target=2.5),
    Row("direct-1x1", "proxy", "gateway", "direct", SMALL, ONE),
    Row("direct-4x8", "proxy", "gateway", "direct", SMALL, SOME),
    Row("direct-8x32", "proxy", "gateway", "direct", SMALL, MANY),
    Row("merging-4x8", "proxy", "gateway", "gateway, unmerged", SMALL, SOME),
    Row("merging-8x32", "proxy", "gateway", "gateway, unmerged", SMALL, MANY),
    Row("merging-cpu", "proxy", "gateway", "gateway, unmerged", SMALL, ONE, "cpu", threshold=1.02),
    Row("policies-4x8", "proxy", "gateway, policies", "gateway", SMALL, SOME, threshold=0.95),
    Row("policies-8x32", "proxy", "gateway, policies", "gateway", SMALL, MANY, threshold=0.95),
    Row("front-gateway-8x32", "proxy", "gateway", "gateway, grpcio", SMALL, MANY),
    Row("payload-4k", "proxy", "gateway", "envoy", MIDDLE, SOME),
    Row("payload-600k", "proxy", "gateway", "envoy", LARGE, WIDE, threshold=0.7, target=1.0),
    Row("onnx-p50", "onnx", "onnx_svc", "nghttpd", SMALL, ONE, "p50", threshold=2.0, target=1.5),
    Row("onnx-1x1", "onnx", "onnx_svc", "nghttpd", SMALL, ONE),
    Row("onnx-4x8", "onnx", "onnx_svc", "nghttpd", SMALL, SOME, threshold=0.12, target=0.3),
    Row("onnx-8x32", "onnx", "onnx_svc", "nghttpd", SMALL, MANY),
    Row("front-onnx-4x8", "onnx", "onnx_svc", "onnx_svc, grpcio", SMALL, SOME),
    Row("torchserve-4x8", "torchserve", "gateway", f"torchserve {SOME}", SMALL, SOME, threshold=1.5, target=3.0),
    Row("torchserve-8x32", "torchserve", "gateway", f"torchserve {MANY}", SMALL, MANY, threshold=2.5, target=5.0),
    Row("torchserve-mean-4x8", "torchserve", "gateway", f"torchserve {SOME}", SMALL, SOME, "mean", threshold=1.0),
    Row("torchserve-mean-8x32", "torchserve", "gateway", f"torchserve {MANY}", SMALL, MANY, "mean", threshold=1.0),
    Row("workers-2", "workers", "2 workers", "1 worker", SMALL, MANY, cores=4),
    Row("workers-4", "workers", "4 workers", "1 worker", SMALL, MANY, cores=4),
)


class Tuning(NamedTuple):
    """One setting of TorchServe: requests in a batch at most, milliseconds to wait for them, worker processes."""

    batch_size: int
    max_batch_delay: int
    workers: int


# TorchServe directly, at its best: each of these is tried under each load, and the best is the peer.
SWEEP = (
    Tuning(1, 1, 1),
    Tuning(8, 1, 1),
    Tuning(32, 1, 1),
    Tuning(64, 2, 1),
    Tuning(128, 1, 1),
    Tuning(256, 1, 1),
    Tuning(256, 5, 1),
    Tuning(32, 1, 2),
    Tuning(128, 2, 2),
)
