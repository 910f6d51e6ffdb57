import pytest

from services.oip_server.alone import Alone


def test_a_run_is_alone_until_another_begins_and_again_when_all_have_ended() -> None:
    alone = Alone()
    with alone as first, alone as second:
        assert (first, second) == (True, False)
        with alone as third:
            assert not third
    with alone as next_one:
        assert next_one


def test_a_run_that_fails_is_over() -> None:
    alone = Alone()
    with pytest.raises(ZeroDivisionError), alone:
        1 / 0  # noqa: B018 - it fails
    with alone as next_one:
        assert next_one
