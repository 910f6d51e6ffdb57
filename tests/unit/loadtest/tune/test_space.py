import pytest

from loadtest.tune.space import changed, space_of
from servepath.protocols.stacks import GATEWAY_TUNABLES, PATH_STACKS, STACKS, Stack

IN_USE = {"max_in_flight": 4, "max_merge_rows": 64}


@pytest.mark.parametrize("stack", STACKS.values(), ids=list(STACKS))
def test_every_stack_has_a_small_space_whose_names_are_its_own(stack: Stack) -> None:
    found = space_of(stack, cores=2, in_use=IN_USE)

    assert stack.tunables
    assert 1 < sum(map(len, found.values())) < 20
    names = [tunable.name for tunable in (*GATEWAY_TUNABLES, *stack.tunables)]
    assert len(set(names)) == len(names)


def test_what_is_in_use_and_what_needs_more_cores_is_left_out() -> None:
    found = space_of(STACKS["torchserve"], cores=2, in_use=IN_USE)

    assert found["max_in_flight"] == (1, 16)
    assert found["workers"] == (2,)
    assert found["engine_threads"] == (1,)
    assert "workers" not in space_of(STACKS["torchserve"], cores=1, in_use=IN_USE)


def test_what_a_server_has_by_default_is_no_candidate() -> None:
    by_stack = {name: space_of(STACKS[name], cores=4, in_use=IN_USE)["engine_threads"] for name in STACKS}

    assert by_stack == {"torchserve": (1, 2), "tfserving": (1, 2), "onnx": (1, 2, 4), "litert": (1, 2, 4)}


def test_precisions_are_searched_where_the_model_has_paths_in_them() -> None:
    found = space_of(STACKS["onnx"], cores=2, in_use=IN_USE, precisions=["int8"])

    assert found["precision"] == ("int8",)
    assert PATH_STACKS["onnx:int8"].tunables == STACKS["onnx"].tunables


def test_a_candidate_has_its_settings_in_one_order() -> None:
    one = changed(changed((), "threads", 4), "max_in_flight", 1)

    assert one == changed(changed((), "max_in_flight", 1), "threads", 4)
    assert changed(one, "threads", 1) == (("max_in_flight", 1), ("threads", 1))
