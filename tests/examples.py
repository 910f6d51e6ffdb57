"""How many inputs Hypothesis tries where a test wants more: all with the profile `thorough`, a share every day."""

from hypothesis import settings

# max_examples of Hypothesis, of the profile `thorough`, and of every day (tests/conftest.py).
ALL, EVERY_DAY = 100, 20


def examples(count: int) -> int:
    """Return as many of `count` as the profile that is loaded tries of ALL."""
    return count * settings.default.max_examples // ALL
