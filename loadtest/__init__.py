"""The load test: Locust users for every deployment path, direct and through the gateway, one row per request.

It records and computes nothing: `python -m report` reads the rows. Run `python -m loadtest --help`.
"""
