"""What a capacity makes of cores and prices."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.cost.price import NO_CAPACITY, NO_PRICE, NO_TUNED, Price, figures, priced_again, read_capacity

PATH = ("simple_nn", "onnx")


def entry(via: str, rate_rps: float | None) -> dict[str, Any]:
    return {"model": "simple_nn", "stack": "onnx", "via": via, "rate_rps": rate_rps, "cores": 2}


def capacity(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"slo_p99_ms": 5, "paths": [*entries, entry("direct", 9.0) | {"stack": "other"}]}


def test_a_capacity_gives_requests_per_core_and_the_price_of_a_million() -> None:
    found = list(figures(capacity(entry("direct", 2000.0), entry("gateway", 1000.0)), PATH, Price(0.36, "EUR")))
    assert [(figure.name, figure.value, figure.unit) for figure in found] == [
        ("capacity per core, direct", 1000.0, "req/s"),
        ("capacity per core, gateway", 500.0, "req/s"),
        ("price per million predictions, direct", pytest.approx(0.05), "EUR"),
        ("price per million predictions, gateway", pytest.approx(0.1), "EUR"),
    ]
    assert "0.36 EUR an hour, declared, at 2,000 req/s (p99 below 5 ms)" in found[2].note


def test_without_a_capacity_or_a_price_it_says_what_is_missing() -> None:
    assert [figure.note for figure in figures(None, PATH, Price(1, "EUR"))] == [NO_CAPACITY] * 4
    assert [figure.note for figure in figures(capacity(), PATH, None)] == [NO_CAPACITY] * 2 + [NO_PRICE] * 2


def test_a_path_that_meets_the_objective_at_no_rate_has_no_figures() -> None:
    found = list(figures(capacity(entry("direct", None)), PATH, Price(1, "EUR")))
    assert (found[0].value, found[0].note) == (None, "no rate tried meets p99 below 5 ms")
    assert (found[2].value, found[2].note) == (None, "no rate tried meets p99 below 5 ms")
    lowest = next(figures(capacity(entry("direct", None) | {"high_rps": 125.0}), PATH, None))
    assert lowest.note == "p99 below 5 ms is not met at 125 req/s, the lowest rate tried"


def test_a_search_that_did_not_reach_the_servers_limit_gives_bounds() -> None:
    found = list(figures(capacity(entry("direct", 2000.0) | {"limit": "generator"}), PATH, Price(1, "EUR")))
    assert found[0].note.endswith("; at least that, since the search was ended by: generator")
    assert found[2].note.endswith("; at most that, since the search was ended by: generator")
    none = entry("direct", None) | {"limit": "wrong answers"}
    assert next(figures(capacity(none), PATH, None)).note == "the capacity has no rate: wrong answers"


def test_servers_elsewhere_have_no_rate_per_core_but_a_price() -> None:
    found = list(figures(capacity(entry("direct", 2000.0) | {"cores": None}), PATH, Price(0.36, "EUR")))
    assert (found[0].value, found[0].note) == (None, "the number of cores of the servers is unknown")
    assert found[2].value == pytest.approx(0.05)


def test_the_capacity_is_read_from_the_run(tmp_path: Path) -> None:
    assert read_capacity(tmp_path) is None
    (tmp_path / "capacity.json").write_text(json.dumps({"capacity": capacity()}))
    assert read_capacity(tmp_path) == capacity()


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"capacity": {"paths": []}}', '{"capacity": []}'])
def test_a_file_that_holds_no_capacity_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "capacity.json").write_text(content)
    with pytest.raises(ValueError, match=r"capacity\.json holds no capacity; remove it, and run: make capacity"):
        read_capacity(tmp_path)


def test_a_path_that_lacks_something_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text('{"capacity": {"slo_p99_ms": 5, "paths": [{"model": "m"}]}}')
    with pytest.raises(ValueError, match=r"capacity\.json has no 'stack'; remove it"):
        read_capacity(tmp_path)


def test_the_capacity_of_other_settings_is_not_its_own() -> None:
    tuned = entry("direct", 2000.0) | {"settings": "tuned 1"}
    assert next(figures(capacity(tuned), PATH, None)).note == NO_CAPACITY
    found = figures(capacity(tuned, entry("direct", 9.0)), PATH, None, {"direct": "tuned 1", "gateway": "default"})
    assert next(found).note.startswith("capacity of 2,000 req/s")


def test_the_command_for_the_capacity_of_tuned_settings_starts_the_servers_with_them() -> None:
    settings = {"direct": "tuned 1", "gateway": "default"}
    notes = [figure.note for figure in figures(capacity(), PATH, Price(1, "EUR"), settings)]
    assert notes == [NO_TUNED, NO_CAPACITY] * 2


def test_an_earlier_card_gets_the_figures_of_the_price_that_is_declared_now() -> None:
    memory = {"name": "idle memory", "value": 3.0, "unit": "MiB", "note": "PSS"}
    of = capacity(entry("direct", 2000.0) | {"settings": "tuned 1"}, entry("gateway", 9.0))
    who = {"model": PATH[0], "stack": PATH[1], "settings": "tuned 1", "gateway_settings": "tuned 2"}
    before = [figure.to_dict() for figure in figures(None, PATH, Price(0.1, "USD"))]
    found = priced_again({**who, "figures": [memory, *before]}, of, Price(0.36, "EUR"))
    values = {figure["name"]: (figure["value"], figure["unit"]) for figure in found["figures"]}
    assert values == {
        "idle memory": (3.0, "MiB"),
        "capacity per core, direct": (1000.0, "req/s"),
        "capacity per core, gateway": (None, "req/s"),
        "price per million predictions, direct": (pytest.approx(0.05), "EUR"),
        "price per million predictions, gateway": (None, "EUR"),
    }
