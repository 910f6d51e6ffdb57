import pytest

from studies.loadgen.rows import Seen, table, worth_another_try

OK = Seen(None, 1, 500.0, None, ok=True, wrong=None)
FAILED, RIGHT, WRONG = OK._replace(ok=False), OK._replace(wrong=False), OK._replace(wrong=True)


@pytest.mark.parametrize(
    ("seen", "again"),
    [
        ([OK, OK], False),
        ([OK, FAILED], True),
        ([RIGHT, FAILED], True),
        ([RIGHT, WRONG], False),
        ([WRONG, FAILED], False),
    ],
)
def test_failed_requests_are_tried_again_but_never_to_hide_a_wrong_answer(seen: list[Seen], *, again: bool) -> None:
    assert worth_another_try(table(seen, ramp_up=1)) is again
