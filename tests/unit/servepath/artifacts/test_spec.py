import math

import numpy as np
import pytest

from servepath.artifacts.spec import Tolerance

TOLERANCE = Tolerance(rtol=0.1, atol=0.0)


@pytest.mark.parametrize(
    ("answer", "reference", "holds"),
    [
        (1.05, 1.0, True),
        (1.2, 1.0, False),
        (math.inf, math.inf, True),
        (-math.inf, math.inf, False),
        (1.0, math.inf, False),
        (math.inf, 1.0, False),
        (math.nan, math.nan, True),
        (1.0, math.nan, False),
        (math.nan, 1.0, False),
    ],
)
def test_what_is_not_finite_agrees_with_itself_alone(answer: float, reference: float, holds: bool) -> None:  # noqa: FBT001 - a case
    with np.errstate(invalid="ignore"):
        assert TOLERANCE.holds(np.array([1.0, answer]), np.array([1.0, reference])) is holds


def test_answers_of_another_shape_do_not_agree() -> None:
    assert not TOLERANCE.holds(np.ones((1, 2)), np.ones((2, 1)))
