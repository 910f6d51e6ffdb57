"""What all integration tests share."""

import pytest

from services.dataplane.listeners import LISTENERS


@pytest.fixture(scope="session", params=tuple(LISTENERS))
def front(request: pytest.FixtureRequest) -> str:
    """The name of each listener in turn: what is asked of a server is asked of it on all of them."""
    name: str = request.param
    return name
