"""The scorecard that a run has already: what of it stays, and the price that it declares."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.cost.price import Price
from loadtest.loaded_run import LoadedRun
from servepath.results.names import VIAS, key_of

Card = Mapping[str, Any]
# What must be the same for cards to stay: the file says it once for all of them.
ALIKE = ("git_commit", "rate_rps")


class Earlier(NamedTuple):
    """An earlier scorecard, none at all included. about: what its file says of all cards."""

    about: Mapping[str, Any] = {}
    cards: Sequence[Card] = ()
    price: Price | None = None

    def kept(self, about: Mapping[str, Any], cards: Sequence[Card], run: LoadedRun) -> list[Card]:
        """Return the cards of other paths or settings than `cards`, where commit, load and the run's servers agree."""
        if any(self.about.get(name) != about[name] for name in ALIKE):
            return []
        ours = {_owner(each) for each in cards}
        return [each for each in self.cards if _owner(each) not in ours and _of_run(each, run)]


def read_earlier(file: Path) -> Earlier:
    """Read a scorecard, which need not be there. Raises ValueError naming a file that is none."""
    try:
        found = json.loads(file.read_text())
        cards, declared = list(found["scorecard"]), found.get("price")
        for each in cards:
            _names(each)
        price = None if declared is None else Price(float(declared["per_hour"]), str(declared["currency"]))
    except FileNotFoundError:
        return Earlier()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read ({error!r}); remove it") from error
    return Earlier(found, cards, price)


def _names(one: Card) -> set[str]:
    """Return what a card and its figures are called. Raises KeyError or TypeError where it is none."""
    return {one["model"], one["stack"], *(figure["name"] for figure in one["figures"])}


def _owner(one: Card) -> tuple[Any, ...]:
    return tuple(one.get(name) for name in ("model", "stack", "settings", "gateway_settings"))


def _of_run(one: Card, run: LoadedRun) -> bool:
    return all(run.had(key_of(f"{one['model']}@{one['stack']}", via), one) for via in VIAS)
