import pytest

from studies.loadgen.loadgen import read_trace
from studies.loadgen.rows import Seen

# As LoadGen 6.0.17 writes it: completions in the order in which they came, other events between them.
TRACE = """{"traceEvents":[
{"name":"Scheduling","ph":"X","pid":1,"tid":1,"ts":178.175,"dur":0.050,"args":{}},
{"name":"Latency","ph": "C","pid":1,"ts":5000.5,"args":{ "issue_delay":60000,"issue_to_done":400000}},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":1,"ts":5000.5,\
"args":{"sample_seq":1,"query_seq":1,"sample_idx":45,"issue_start_ns":60000,"complete_ns":460000}},
{"name":"Sample","cat":"default","ph":"e", "pid":1,"id":1,"ts":5460.5},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":100.0,\
"args":{"sample_seq":0,"query_seq":0,"sample_idx":110,"issue_start_ns":50000,"complete_ns":9050000}},
{"name":"LastTrace"}
],
"displayTimeUnit":"ns",
"otherData":{
"ts":1000000.000,
"version":"MLPerf LoadGen v1.0"
}
}
"""


def test_a_samples_latency_counts_from_its_schedule_and_its_service_time_from_its_sending() -> None:
    assert read_trace(TRACE, [(True, False), (True, True)]) == [
        Seen(1_005_000_500, 1_005_060_500, 400.0, 460.0, ok=True, wrong=True),
        Seen(1_000_100_000, 1_000_150_000, 9000.0, 9050.0, ok=True, wrong=False),
    ]


def test_a_trace_with_samples_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="2 of 3 samples"):
        read_trace(TRACE, [(True, False)] * 3)
