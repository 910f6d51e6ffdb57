from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram

from services.dataplane.counters import SHORT_US, Counter, Durations, Histogram


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_count_is_shown_under_its_labels() -> None:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", ("model", "code"), registry=registry)
    counter.labels("m", "OK").inc()
    counter.labels("m", "OK").inc(4)
    counter.labels("m", "UNAVAILABLE")
    assert lines(registry)[-2:] == [
        'calls_total{code="OK",model="m"} 5.0',
        'calls_total{code="UNAVAILABLE",model="m"} 0.0',
    ]


def test_a_spread_says_what_the_librarys_own_histogram_says() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    buckets = (0.001, 0.1, 1)
    spread = Histogram("took_seconds", "Took.", ("model",), buckets=buckets, registry=ours).labels("m")
    library = LibraryHistogram("took_seconds", "Took.", ("model",), buckets=buckets, registry=theirs).labels("m")
    for value in (0, 0.001, 0.0011, 0.5, 1, 1.5, 99):
        spread.observe(value)
        library.observe(value)
    assert lines(ours) == lines(theirs)


def test_durations_say_in_seconds_what_the_librarys_own_histogram_says() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    buckets = (0.00005, 0.000075, 0.001, SHORT_US / 1e6, 0.1, 1)
    spread = Durations("took_seconds", "Took.", ("model",), buckets=buckets, registry=ours).labels("m")
    library = LibraryHistogram("took_seconds", "Took.", ("model",), buckets=buckets, registry=theirs).labels("m")
    values = (0, 49, 50, 51, 75, 1000, 1001, SHORT_US - 1, SHORT_US, SHORT_US + 1, 100_000, 10**6, 10**6 + 1)
    for us in values:
        spread.observe(us)
        library.observe(us / 1e6)
    assert [line for line in lines(ours) if "_sum" not in line] == [
        line for line in lines(theirs) if "_sum" not in line
    ]
    assert f'took_seconds_sum{{model="m"}} {sum(values) / 1e6}' in lines(ours)
