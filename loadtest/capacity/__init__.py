"""The highest rate at which a path keeps its objective, and what it does beyond: `python -m loadtest.capacity`.

A search needs to know while it runs what the requests of a trial prove. So the one statistic of the load test, counting
what is over the objective, is here (certify.py), and a test holds it to the report's own rule.
"""
