"""The metrics of several workers as one: what counts is added up, what measures a state is told apart by `worker`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from threading import Lock
from urllib.request import Request, urlopen

from prometheus_client import Metric
from prometheus_client.core import Exemplar
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

ADDED = frozenset({"counter", "histogram", "summary"})
# Load by which an endpoint picker chooses: it takes one sample of a pod, so those of the workers are added up.
PENDING = "nv_inference_pending_request_count"
REQUESTS = "nv_trt_llm_request_metrics"
KV_CACHE = "nv_trt_llm_kv_cache_block_metrics"
LOAD = frozenset({PENDING, REQUESTS, KV_CACHE})
TIMEOUT_S = 2.0
# The format that has exemplars.
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
# Family's name, sample's name, labels.
Key = tuple[str, str, tuple[tuple[str, str], ...]]


class MergedMetrics(Collector):
    """Asks the workers at each scrape. addresses: gives name -> HOST:PORT of those that live.

    What dead workers had counted when they were last asked stays in the sums: a counter never goes down.
    """

    def __init__(self, addresses: Callable[[], Mapping[str, str]]) -> None:
        self._addresses = addresses
        self._last: dict[str, list[Metric]] = {}
        self._dead: Counter[Key] = Counter()
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the merged families."""
        with self._lock:
            yield from self._merged().values()

    def _merged(self) -> dict[str, Metric]:
        addresses = self._addresses()
        for name in self._last.keys() - addresses.keys():
            self._dead.update(_sums(self._last.pop(name)))
        for name, address in addresses.items():
            self._last[name] = _asked(address) or self._last.get(name, [])
        merged: dict[str, Metric] = {}
        sums = self._dead.copy()
        exemplars: dict[Key, Exemplar] = {}
        for name, families in self._last.items():
            sums.update(_sums(families))
            exemplars |= _exemplars(families)
            for family in families:
                whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                if family.name in LOAD:
                    sums.update(_samples(family))
                elif family.type not in ADDED:
                    for sample in family.samples:
                        whole.add_sample(sample.name, {**sample.labels, "worker": name}, sample.value)
        for key, value in sums.items():
            family_name, name, labels = key
            if family_name in merged:
                merged[family_name].add_sample(name, dict(labels), value, exemplar=exemplars.get(key))
        return merged


def _asked(address: str) -> list[Metric]:
    try:
        with urlopen(Request(f"http://{address}/metrics", headers=OPEN_METRICS), timeout=TIMEOUT_S) as reply:
            return list(text_string_to_metric_families(reply.read().decode()))  # type: ignore[no-untyped-call]
    except (OSError, HTTPException, ValueError):  # it is just ending, maybe amid its reply
        return []


def _sums(families: list[Metric]) -> Counter[Key]:
    counted: Counter[Key] = Counter()
    for family in families:
        if family.type in ADDED:
            counted.update(_samples(family))
    return counted


def _exemplars(families: list[Metric]) -> dict[Key, Exemplar]:
    return {
        (family.name, sample.name, tuple(sample.labels.items())): sample.exemplar
        for family in families
        for sample in family.samples
        if sample.exemplar
    }


def _samples(family: Metric) -> dict[Key, float]:
    return {(family.name, sample.name, tuple(sample.labels.items())): sample.value for sample in family.samples}
