"""What a run is called and by which thresholds it is judged: what the load test writes and the report reads."""
