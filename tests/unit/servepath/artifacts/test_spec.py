import math
from dataclasses import asdict

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


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ([[2.0, 0.0], [0.0, 3.0]], True),  # lengths do not count
        ([[1.0, 0.1], [0.0, 1.0]], True),
        ([[1.0, 0.0], [1.0, 1.0]], False),  # one vector is 45 degrees off
        ([[1.0, 0.0], [0.0, math.nan]], False),
        ([[1.0, 0.0], [0.0, math.inf]], False),
        ([[1.0, 0.0], [0.0, 0.0]], False),
        ([[1.0, 0.0, 0.0]], False),
    ],
)
def test_a_cosine_asks_for_the_direction_of_every_vector(answer: list[list[float]], holds: bool) -> None:  # noqa: FBT001 - a case
    assert Tolerance(cosine=0.99).holds(np.array(answer), np.eye(2)) is holds


@pytest.mark.parametrize(
    ("top_k", "answer", "holds"),
    [
        (1, [0.1, 0.2, 9.0], True),
        (1, [0.2, 9.0, 0.1], False),
        (2, [0.1, 9.0, 0.2], True),
        (2, [0.2, 9.0, 0.1], False),
        (5, [0.2, 9.0, 0.1], True),
        (1, [0.1, 9.0, 9.0], True),
        (2, [1.0, 1.0, 1.0], False),
        (3, [1.0, 1.0, 1.0], True),
    ],
)
def test_the_best_class_must_be_among_the_k_best(top_k: int, answer: list[float], holds: bool) -> None:  # noqa: FBT001 - a case
    reference = np.array([[0.0, 0.3, 0.7], [5.0, 0.0, 0.0]])
    assert Tolerance(top_k=top_k).holds(np.array([answer, [1.0, 0.0, 0.0]]), reference) is holds


def test_no_rows_agree_by_every_measure() -> None:
    for tolerance in (Tolerance(1e-3, 0.0), Tolerance(cosine=0.9), Tolerance(top_k=1)):
        assert tolerance.holds(np.ones((0, 3)), np.ones((0, 3)))


@pytest.mark.parametrize("raw", [{"rtol": 0.5, "atol": 0.25}, {"cosine": 0.5}, {"top_k": 3}])
def test_a_tolerance_is_read_as_it_was_written(raw: dict[str, float]) -> None:
    assert Tolerance.from_dict(asdict(Tolerance.from_dict(raw))) == Tolerance(**raw)


@pytest.mark.parametrize(
    "raw", [{"cosine": 2}, {"top_k": 0}, {"top_k": 1.5}, {"cosine": 0.9, "top_k": 1}, {"cosine": 0.9, "rtol": 1}]
)
def test_a_tolerance_of_no_meaning_is_refused(raw: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"cosine|top_k"):
        Tolerance.from_dict(raw)


def test_a_vector_of_nothing_agrees_with_itself_alone() -> None:
    assert Tolerance(cosine=0.9).holds(np.zeros((1, 2)), np.zeros((1, 2)))
    assert not Tolerance(cosine=0.9).holds(np.ones((1, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("answer", "holds"),
    [([0.0, 0.0, 0.0], False), ([0.0, 0.0, 1.0], True), ([0.0, 1.0, 1.0], True), ([1.0, 0.0, 0.0], False)],
)
def test_of_several_best_classes_any_may_be_the_answers(answer: list[float], holds: bool) -> None:  # noqa: FBT001 - a case
    assert Tolerance(top_k=1).holds(np.array([answer]), np.array([[0.0, 0.5, 0.5]])) is holds


def test_where_the_reference_prefers_no_class_neither_need_the_answer() -> None:
    assert Tolerance(top_k=1).holds(np.zeros((1, 3)), np.ones((1, 3)))


def test_a_tie_that_rounding_makes_of_two_classes_is_honest() -> None:
    assert Tolerance(top_k=1).holds(np.array([[0.5, 0.5]]), np.array([[0.50007, 0.49993]]))
    assert not Tolerance(top_k=1).holds(np.array([[0.5, 0.5]]), np.array([[0.6, 0.4]]))


@pytest.mark.parametrize("tolerance", [Tolerance(cosine=0.99), Tolerance(top_k=1)])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_of_a_vector_what_is_not_finite_agrees_with_itself_alone(tolerance: Tolerance, odd: float) -> None:
    def agree(answer: list[float], reference: list[float]) -> bool:
        return tolerance.holds(np.array([answer, [1.0, 0.0, 0.0, 0.0]]), np.array([reference, [1.0, 0.0, 0.0, 0.0]]))

    assert agree([odd, 9, 1, 0], [odd, 9, 1, 0])
    assert agree([odd] * 4, [odd] * 4)
    assert not agree([odd, 0, 1, 9], [odd, 9, 1, 0])
    assert not agree([odd, 9, 1, 0], [1, 9, 1, 0])
    assert not agree([1, 9, 1, 0], [odd, 9, 1, 0])


def test_an_answer_that_is_no_number_is_no_class() -> None:
    assert not Tolerance(top_k=1).holds(np.array([[math.nan, 0.0]]), np.array([[1.0, 0.0]]))
