import numpy as np
import pytest

from report.estimates import Estimate, geometric_mean, ratio

DRAWS = 4000


def test_one_value_has_no_interval_and_equal_ones_have_none_to_speak_of() -> None:
    assert geometric_mean([3.0]) == Estimate(pytest.approx(3.0))
    assert geometric_mean([3.0, 3.0]) == Estimate(*[pytest.approx(3.0)] * 3)
    assert ratio([3.0], [2.0, 2.0]) == Estimate(pytest.approx(1.5))
    assert ratio([3.0, 3.0], [2.0, 2.0]) == Estimate(*[pytest.approx(1.5)] * 3)


def test_the_interval_of_a_ratio_is_welchs() -> None:
    # scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval() of the logarithms
    found = ratio([2.0, 2.2, 2.1], [1.0, 1.3, 1.1, 1.2])
    assert found == Estimate(*map(pytest.approx, (1.833417, 1.545803, 2.174545)))


def test_an_interval_of_a_ratio_of_three_measurements_each_holds_the_truth_in_95_of_100() -> None:
    random = np.random.default_rng(7)
    held = 0
    for ours, theirs in zip(*random.lognormal(0, (0.1, 0.02), (DRAWS, 3, 2)).transpose(2, 0, 1), strict=True):
        found = ratio(ours.tolist(), theirs.tolist())
        held += found.low is not None and found.high is not None and found.low <= 1 <= found.high
    assert 0.94 < held / DRAWS < 0.98
