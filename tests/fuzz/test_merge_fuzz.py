import pytest

from services.dataplane.listeners import LISTENERS
from tests.fuzz.merge_fuzz import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("front", LISTENERS)
def test_no_row_is_mixed_lost_or_doubled_whatever_happens_to_the_calls(front: str) -> None:
    assert main(["--rows", "20000", "--front", front]) == 0
