"""What capacity.json of the same run makes of a machine: requests a second and core, and the price of a million."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from loadtest.cost.figures import Figure, missing
from servepath.results.names import CAPACITY_FILE

VIAS = ("direct", "gateway")
PER_CORE, PRICE = "capacity per core", "price per million predictions"
UNIT = "req/s"
# What the capacity is given by, if the file does not say otherwise.
SERVER = "server"
NO_CAPACITY = "needs the capacity: run make capacity, then make scorecard again"
NO_TUNED = "needs the capacity: run make down capacity TUNED=1, then make down scorecard TUNED=1"
NO_PRICE = "no price declared: make scorecard PRICE_PER_HOUR=0.10 CURRENCY=EUR"


# Of each path in the file.
NEEDED = ("model", "stack", "via", "rate_rps", "cores")
Entry = Mapping[str, Any]


DEFAULTS: Mapping[str, str] = MappingProxyType(dict.fromkeys(VIAS, "default"))


class Price(NamedTuple):
    """What an hour of this machine costs, as its owner says."""

    per_hour: float
    currency: str


def read_capacity(run: Path) -> Mapping[str, Any] | None:
    """Read RUN/capacity.json, or return None while it does not exist. Raises ValueError for another content."""
    try:
        content: dict[str, Any] = json.loads((run / CAPACITY_FILE).read_text())["capacity"]
        lacking = [name for name in NEEDED if any(name not in entry for entry in content["paths"])]
        float(content["slo_p99_ms"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run / 'capacity.json'} holds no capacity; remove it, and run: make capacity") from error
    if lacking:
        raise ValueError(f"{run / 'capacity.json'} has no {lacking[0]!r}; remove it, and run: make capacity")
    return content


def figures(
    capacity: Entry | None, path: tuple[str, str], price: Price | None, settings: Mapping[str, str] = DEFAULTS
) -> Iterator[Figure]:
    """Yield the figures of a path, direct and through the gateway. settings: of each way; another's are not its own."""
    found = {
        entry["via"]: entry
        for entry in (capacity or {"paths": ()})["paths"]
        if (entry["model"], entry["stack"]) == path and entry.get("settings", "default") == settings[entry["via"]]
    }
    slo = f"p99 below {capacity['slo_p99_ms']:g} ms" if capacity else ""
    why = {via: _no_rate(found.get(via), slo, settings[via]) for via in VIAS}
    for via in VIAS:
        yield _per_core(via, found.get(via), slo, why[via])
    for via in VIAS:
        yield _price(via, found.get(via), slo, price, why[via])


def priced_again(card: Mapping[str, Any], capacity: Entry | None, price: Price | None) -> dict[str, Any]:
    """Return an earlier card with the figures that capacity and price make now: all cards of a file have one price."""
    settings = card.get("settings", DEFAULTS["direct"])
    ways = {"direct": settings, "gateway": card.get("gateway_settings", settings)}
    now = {figure.name: figure.to_dict() for figure in figures(capacity, (card["model"], card["stack"]), price, ways)}
    return {**card, "figures": [now.get(figure["name"], figure) for figure in card["figures"]]}


def _per_core(via: str, entry: Entry | None, slo: str, no_rate: str) -> Figure:
    name = f"{PER_CORE}, {via}"
    if entry is None or not entry["rate_rps"]:
        return missing(name, UNIT, no_rate)
    if entry["cores"] is None:
        return missing(name, UNIT, "the number of cores of the servers is unknown")
    note = f"capacity of {entry['rate_rps']:,.0f} req/s at {slo}, over the {entry['cores']:g} cores they could use"
    return Figure(name, entry["rate_rps"] / entry["cores"], UNIT, note + _bound(entry, "at least"))


def _price(via: str, entry: Entry | None, slo: str, price: Price | None, no_rate: str) -> Figure:
    name, unit = f"{PRICE}, {via}", price.currency if price else ""
    if price is None:
        return missing(name, unit, NO_PRICE)
    if entry is None or not entry["rate_rps"]:
        return missing(name, unit, no_rate)
    rate_rps = entry["rate_rps"]
    note = f"{price.per_hour:g} {unit} an hour, declared, at {rate_rps:,.0f} req/s ({slo}) at full load"
    return Figure(name, price.per_hour / (rate_rps * 3600) * 1e6, unit, note + _bound(entry, "at most"))


def _no_rate(entry: Entry | None, slo: str, settings: str) -> str:
    """Return why a path has no figures where it has no capacity, or one without a rate."""
    if entry is None:
        return NO_TUNED if settings.startswith("tuned ") else NO_CAPACITY
    limit, lowest = entry.get("limit", SERVER), entry.get("high_rps")
    if limit != SERVER:
        return f"the capacity has no rate: {limit}"
    return f"{slo} is not met at {lowest:,g} req/s, the lowest rate tried" if lowest else f"no rate tried meets {slo}"


def _bound(entry: Entry, words: str) -> str:
    """Return a note that the search, not the server, was the limit."""
    limit = entry.get("limit", SERVER)
    return "" if limit == SERVER else f"; {words} that, since the search was ended by: {limit}"
