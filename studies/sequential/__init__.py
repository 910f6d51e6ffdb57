"""Simulated runs that go on until they know, by several rules: `python -m studies.sequential`."""
