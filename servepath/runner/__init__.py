"""The local runner: every service on this machine, each in a session of its own, found again by its mark."""
