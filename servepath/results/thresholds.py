"""The numbers that decide whether a measurement counts, and how a command says that it does not."""

# The fewest samples of which a p99 may be shown: report/percentiles.py derives it.
MIN_P99_SAMPLES = 662
# A row of fewer requests is not valid.
MIN_REQUESTS = 1000
# Late means by more than a millisecond: a generator that lags its schedule measures itself.
LATE_NS = 1_000_000
MAX_LATE_SHARE = 0.01
# Above this share of a core, a generator's own queueing is in every latency (Locust warns at the same figure).
MAX_CPU = 0.9
# The wall clock against the measuring one, over a run: more means that one was set or that the machine stood still.
MAX_DRIFT_US = 10_000
# The exit code of a report whose answers are all right and whose times prove nothing.
UNTRUSTED = 3
