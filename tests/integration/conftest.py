"""What all integration tests share."""

import pytest

from services.serving.fronts import FRONTS


@pytest.fixture(scope="session", params=tuple(FRONTS))
def front(request: pytest.FixtureRequest) -> str:
    """The name of each front in turn: what is asked of a server is asked of it on all of them."""
    name: str = request.param
    return name
