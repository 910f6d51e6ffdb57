"""What was judged by whose rules, said at the end whatever passed."""

from collections import Counter

import pytest

SAID = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SAID] = []


@pytest.fixture
def say(request: pytest.FixtureRequest) -> list[str]:
    """Return the list of lines for the end."""
    return request.config.stash[SAID]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = Counter(config.stash[SAID])
    for line in lines:
        terminalreporter.write_line(line)
