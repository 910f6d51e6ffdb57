"""The trials of a path on disk, written whole after each: what a search that is given again goes on from."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loadtest.tune.options import drawn_seed
from loadtest.tune.search import Round, Trial
from servepath.artifacts import atomic
from servepath.artifacts.commit import names_code
from servepath.settings import SettingsError


@dataclass(slots=True)
class History:
    """A path's trials. context: what they hold for: goal, load, artifact, engine, machine, default, git_commit.

    seed: of their order. others: whether the file has those of another search, which are moved aside before the first
    trial is kept. unnamed: whether they are others only since no commit names the code. looks: how many trials there
    were at each confirmed conclusion.
    """

    file: Path
    context: Mapping[str, Any]
    seed: int
    trials: list[Trial] = field(default_factory=list)
    others: bool = False
    unnamed: bool = False
    looks: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path, context: Mapping[str, Any], seed: int | None) -> Self:
        """Return the trials of a file if they hold for `context` and `seed`, else none; without a seed, with theirs.

        Those of code that no commit names hold for nothing: it may have changed. Raises SettingsError for a file that
        cannot be read.
        """
        found = cls(file, context, drawn_seed() if seed is None else seed)
        named = names_code(context["git_commit"])
        try:
            raw = json.loads(file.read_text())
            same = raw["context"] == context and seed in {None, raw["seed"]}
            if same and named:
                found.trials = [_trial(each) for each in raw["trials"]]
                found.seed = int(raw["seed"])
                found.looks = [int(each) for each in raw.get("looks", ())]
            else:
                found.others, found.unnamed = True, same
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} cannot be read ({error!r}); remove it") from error
        return found

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        if self.others:
            names = (self.file.with_suffix(f".{number}.json") for number in itertools.count(1))
            self.file.rename(next(name for name in names if not name.exists()))
            self.others = False
        self.trials.append(trial)
        self._write()

    @property
    def look(self) -> int:
        """Return the number of a confirmed conclusion from the trials now, from 1; the same trials have the same."""
        now = len(self.trials)
        return (self.looks.index(now) if now in self.looks else len(self.looks)) + 1

    def keep_look(self) -> None:
        """Keep that there is a confirmed conclusion from the trials now."""
        if len(self.trials) not in self.looks:
            self.looks.append(len(self.trials))
            self._write()

    def _write(self) -> None:
        trials = [each._asdict() for each in self.trials]
        raw = {"context": self.context, "seed": self.seed, "looks": self.looks, "trials": trials}
        atomic.write_file(self.file, json.dumps(raw) + "\n")


def _trial(raw: Mapping[str, Any]) -> Trial:
    candidate = tuple((str(name), value) for name, value in raw["candidate"])
    rounds = tuple(Round(*each) for each in raw["rounds"])
    return Trial(candidate, rounds, str(raw["out"]), bool(raw["confirming"]))
