"""Simulated runs with a known truth, through the statistics that judge real ones: `python -m studies.simulation`."""
