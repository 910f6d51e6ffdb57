"""The process's load under the names of NVIDIA Triton's metrics, by which Kubernetes' endpoint pickers choose a pod.

One sample each, over all paths: a picker takes one and looks at no model. The Gateway API inference extension reads
nv_trt_llm_request_metrics{request_type=waiting} (the queue), {request_type=scheduled} (running) and
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction} of a Triton, llm-d's router
nv_inference_pending_request_count of one without TensorRT-LLM (docs/operate.md).
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.dataplane.merged_metrics import KV_CACHE, PENDING, REQUESTS
from services.gateway.replicas import ReplicaSet


class Load(Collector):
    """How many calls wait, and how many are at servers, of all paths together; `paths` may change at any time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.paths: Sequence[ReplicaSet] = ()
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the load as it is now."""
        paths = self.paths
        waiting = sum(path.queued for path in paths)
        yield GaugeMetricFamily(PENDING, "Calls waiting for a server, of all paths.", waiting)
        requests = GaugeMetricFamily(
            REQUESTS, "Calls of all paths: waiting, or at servers (a merged one counted once).", labels=["request_type"]
        )
        requests.add_metric(["waiting"], waiting)
        requests.add_metric(["scheduled"], sum(path.in_flight for path in paths))
        yield requests
        cache = GaugeMetricFamily(
            KV_CACHE, "Share of the key-value cache in use: 0, there is none here.", labels=["kv_cache_block_type"]
        )
        cache.add_metric(["fraction"], 0)
        yield cache
