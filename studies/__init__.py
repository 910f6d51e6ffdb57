"""Proofs of the instrument: peers, another load generator, an injected delay, simulated runs. Nothing imports them."""
