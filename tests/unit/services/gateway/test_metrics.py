from prometheus_client import CollectorRegistry

from servepath.protocols.errors import Cancelled, Overloaded, ServeError
from servepath.protocols.types import Answer
from services.dataplane.backend import Call
from services.gateway.metrics import UNKNOWN, Metrics
from services.gateway.replicas import ReplicaSet
from tests.serving_fakes import ANSWER, call

LABELS = {"model": "m", "stack": "onnx"}
ANSWERED = Answer(ANSWER.outputs, ANSWER.served._replace(backend_us=4000))


def measured() -> tuple[CollectorRegistry, Metrics]:
    registry = CollectorRegistry()
    metrics, labels = Metrics(registry), ("m", "onnx")
    metrics.use({"m": labels, "m@onnx": labels}, {labels: ReplicaSet(())})
    return registry, metrics


def ten_ms_ago(queued_us: int = 0) -> Call:
    made = call()
    made.arrived_ns -= 10_000_000
    made.rows, made.queued_ns = 2, queued_us * 1000
    return made


def test_the_gateways_own_time_is_what_the_reply_says() -> None:
    registry, metrics = measured()
    outcome = metrics.on_complete(ten_ms_ago(), ANSWERED)
    assert isinstance(outcome, Answer)
    assert outcome.served.gateway_us >= 6000
    assert (
        registry.get_sample_value("servepath_gateway_overhead_seconds_sum", LABELS) == outcome.served.gateway_us / 1e6
    )
    assert registry.get_sample_value("servepath_backend_duration_seconds_sum", LABELS) == 0.004


def test_waiting_is_counted_of_every_call_and_one_that_left_at_once_did_not_wait() -> None:
    registry, metrics = measured()
    metrics.on_complete(ten_ms_ago(queued_us=2000), ANSWERED)
    metrics.on_complete(ten_ms_ago(), ANSWERED)
    metrics.on_complete(ten_ms_ago(queued_us=3000), Overloaded("full"))
    below = {
        bound: registry.get_sample_value("servepath_queue_wait_seconds_bucket", LABELS | {"le": bound})
        for bound in ("5e-05", "0.001", "0.0025", "0.005")
    }
    assert below == {"5e-05": 1, "0.001": 1, "0.0025": 2, "0.005": 3}
    assert registry.get_sample_value("servepath_queue_wait_seconds_sum", LABELS) == 0.005


def test_a_call_on_a_path_that_a_reload_removed_counts_for_it() -> None:
    registry, metrics = measured()
    under_way, other = ten_ms_ago(), ("m", "torchserve")
    under_way.name = "m@onnx"
    metrics.use({"m": other, "m@torchserve": other}, {other: ReplicaSet(())})
    metrics.on_complete(under_way, ANSWERED)
    assert registry.get_sample_value("servepath_requests_total", LABELS | {"code": "OK"}) == 1


def test_a_listener_is_told_of_every_call_without_an_answer() -> None:
    _, metrics = measured()
    told: list[tuple[tuple[str, str], Call | None, ServeError, int]] = []
    metrics.on_failure = lambda *failure: told.append(failure)
    late, full, gone = ten_ms_ago(), Overloaded("full"), Cancelled()
    metrics.on_complete(late, full)
    metrics.on_complete(None, gone)
    metrics.on_complete(ten_ms_ago(), ANSWERED)
    (first, second) = told
    assert (first[:3], second) == ((("m", "onnx"), late, full), (UNKNOWN, None, gone, 0))
    assert first[3] >= 10_000
