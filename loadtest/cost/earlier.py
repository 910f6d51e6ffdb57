"""The scorecard that a run has already: what of it stays, and the price that it declares."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.cost.price import Price
from loadtest.loaded_run import LoadedRun
from servepath.results.names import VIAS, key_of

Card = Mapping[str, Any]
# What must be the same for cards to stay: the file says it once for all of them.
ALIKE = {"git_commit": "commit", "rate_rps": "rate"}


class Earlier(NamedTuple):
    """An earlier scorecard, none at all included. about: what its file says of all cards."""

    about: Mapping[str, Any] = {}
    cards: Sequence[Card] = ()
    price: Price | None = None

    def kept(self, about: Mapping[str, Any], cards: Sequence[Card], run: LoadedRun) -> list[Card]:
        """Return the cards of other paths or settings than `cards`, where commit, load and the run's servers agree."""
        return [each for each in self._others(cards) if not self._refusal(each, about, run)]

    def gone(self, about: Mapping[str, Any], cards: Sequence[Card], run: LoadedRun) -> Iterator[str]:
        """Yield which cards of other paths or settings do not stay, and why."""
        for each in self._others(cards):
            if refusal := self._refusal(each, about, run):
                name = f"{each['model']}@{each['stack']} ({each.get('settings', 'default')})"
                yield f"the scorecard no longer has {name}: {refusal}"

    def _others(self, cards: Sequence[Card]) -> list[Card]:
        ours = {_owner(each) for each in cards}
        return [each for each in self.cards if _owner(each) not in ours]

    def _refusal(self, one: Card, about: Mapping[str, Any], run: LoadedRun) -> str:
        """Return why a card cannot stay beside those of now, "" where it can."""
        for name, word in ALIKE.items():
            if self.about.get(name) != about[name]:
                return f"its {word} is {self.about.get(name)}, not {about[name]}"
        return "" if _of_run(one, run) else "the run loaded another engine or artifact"


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
