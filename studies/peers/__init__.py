"""Ours and a peer, interleaved in one run: `python -m studies.peers`.

A benchmark, not a test: it finds, it does not demand.
"""
