"""Our load test against two other instruments, MLPerf LoadGen and h2load: the same paths at the same rate, interleaved.

It records; `python -m report crosscheck` compares. Run `python -m studies.loadgen --help`.
"""
