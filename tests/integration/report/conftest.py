"""The load test's stand: a server that answers, and what is needed to find it."""

from tests.integration.loadtest.conftest import stand

__all__ = ["stand"]
