from pathlib import Path

import pytest

from loadtest.plan import (
    NO_OP,
    Measurement,
    ServingPath,
    Turn,
    choose,
    draw,
    measurements_of,
    read_paths,
    servers_of,
    within_reach,
)
from servepath.settings import SettingsError

ONE, TWO = ServingPath("simple_nn", "onnx"), ServingPath("keras_dense", "tfserving")


def test_paths_are_read_from_deployments_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(
        '[models.b]\ndefault="onnx"\n[models.b.stacks.onnx]\nmax_queue=1\n[models.a]\ndefault="torchserve"\n[models.a.stacks.torchserve]\n'
    )
    assert [str(path) for path in read_paths(file)] == ["b@onnx", "a@torchserve"]


def test_a_bad_list_of_paths_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text("[models.a]\ndefault = 'onx'\n[models.a.stacks.onx]\n")
    with pytest.raises(SettingsError, match=r"deployments\.toml, line 3: unknown key 'onx' .*did you mean 'onnx'"):
        read_paths(file)


def test_a_missing_list_of_paths_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give the list of paths"):
        read_paths(tmp_path / "deployments.toml")


def test_paths_are_chosen_by_name_and_once() -> None:
    assert choose([ONE, TWO], "all") == [ONE, TWO]
    assert choose([ONE, TWO], "keras_dense@tfserving, keras_dense@tfserving") == [TWO]


def test_an_unknown_path_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="'simple_nn' is not a path; known: simple_nn@onnx, keras_dense@tfserving, or all"
    ):
        choose([ONE, TWO], "simple_nn")


def test_every_path_and_way_has_a_block_and_so_has_the_no_op_server() -> None:
    measurements = [Measurement(path, via) for path in (ONE, TWO) for via in ("direct", "gateway")]
    assert measurements_of([ONE, TWO], ("direct", "gateway")) == [*measurements, NO_OP]


def test_sides_are_servers_of_the_same_path_with_a_block_each() -> None:
    found = measurements_of([ONE], ("direct",), ("old", "new"))
    assert found == [Measurement(ONE, "direct", "old"), Measurement(ONE, "direct", "new"), NO_OP]
    assert str(found[0]) == f"{ONE}.direct~old"
    assert found[0].to_dict() == {"model": ONE.model, "stack": ONE.stack, "via": "direct", "side": "old"}


@pytest.mark.parametrize(("via", "servers"), [("direct", ["onnx"]), ("gateway", ["onnx", "gateway"])])
def test_a_path_in_a_reduced_precision_has_the_server_of_the_full_one(via: str, servers: list[str]) -> None:
    assert servers_of(Measurement(ServingPath("m", "onnx:fp16"), via)) == servers


def test_each_round_has_every_block_once_in_an_order_of_its_own_that_the_seed_decides() -> None:
    measurements = measurements_of([ONE, TWO, ServingPath("simple_nn", "torchserve")], ("direct", "gateway"))
    turns = draw(measurements, 20, seed=3)
    orders = [tuple(turn.measurement for turn in turns if turn.round == number) for number in range(20)]
    assert [turn.round for turn in turns] == sorted(turn.round for turn in turns)
    assert {frozenset(order) for order in orders} == {frozenset(measurements)}
    assert len(set(orders)) > 10
    assert draw(measurements, 20, seed=3) == turns
    assert draw(measurements, 20, seed=4) != turns


def test_a_turn_names_its_file() -> None:
    assert str(Turn(7, Measurement(ONE, "gateway"))) == "r07-simple_nn@onnx.gateway"


def test_only_blocks_whose_server_has_an_address_are_within_reach() -> None:
    measurements = measurements_of([ONE, TWO], ("direct", "gateway"))
    assert within_reach(measurements, ["gateway"]) == [Measurement(ONE, "gateway"), Measurement(TWO, "gateway"), NO_OP]
    assert within_reach(measurements, ["onnx"]) == [Measurement(ONE, "direct"), NO_OP]
