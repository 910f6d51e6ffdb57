"""Ours and a peer, interleaved in one run: `python -m bench`. A benchmark, not a test: it finds, it does not demand."""
