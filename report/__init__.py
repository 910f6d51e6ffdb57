"""The report: rows on disk -> one Summary -> a terminal table, summary.json and report.html; no server needed.

Run `python -m report` after a load test.
"""
