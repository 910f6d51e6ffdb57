"""The method's proof on real servers: the same server against itself and against one that is 5 % slower on purpose.

`make validate-method RUNS=20`, or `python -m studies.injected_delay --runs 20`. It drives the load test as a command
and judges its runs with the report's functions; nothing of the product imports it.
"""
