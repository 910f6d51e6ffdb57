"""The run that a capacity or a scorecard is added to: shown as one, they must have the same servers and requests."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from servepath.results.names import RUN_FILE
from servepath.settings import SettingsError

# What tells a path's server from another one, in run.json's fairness part and in entries of what is added.
OF_SERVER = ("engine", "engine_version", "artifact")
RATE_RPS = 500.0


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run's folder, and what its run.json says."""

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run. Raises SettingsError for a run.json that is none."""
        try:
            facts = json.loads((folder / RUN_FILE).read_text())
        except ValueError as error:
            raise SettingsError(f"{folder / RUN_FILE} is not JSON ({error}); run: make loadtest") from error
        return cls(folder, facts)

    @property
    def rate_rps(self) -> float:
        """Return the rate of its load; that of the load test by default where it does not say."""
        return float(self.facts.get("arguments", {}).get("rate", RATE_RPS))

    def refuse_other_requests(self, payloads: Mapping[str, Any], models: Collection[str], fix: str) -> None:
        """Raise SettingsError unless the run sent these requests; an older run does not say.

        payloads: what is sent here, as run.json has it. fix: with {file}, for the option of those of the run.
        """
        sent = self.facts.get("payloads")
        if sent is None:
            return
        for model in sorted(models):
            here, there = _requests(payloads, model), _requests(sent, model)
            if there is not None and here != there:
                file = f"--payloads {sent['file']}" if "file" in sent else "no --payloads"
                raise SettingsError(f"{self.folder} has other requests of {model}: {fix.format(file=file)}")

    def refuse_other_servers(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise SettingsError where another engine or artifact answers now. found: who does, by the measurement."""
        for name, ours in found.items():
            for key, now, then in self._differences(name, ours):
                raise SettingsError(
                    f"{name}: {key} is {now} now and was {then} in {self.folder}; serve what the run loaded, or load "
                    "what is served: make loadtest"
                )

    def had(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Return whether an entry of an addition is of the run's server, as far as both say."""
        return not self._differences(name, entry)

    def _differences(self, name: str, ours: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        theirs = self.facts.get("fairness", {}).get("paths", {}).get(name, {})
        pairs = [(key, str(ours.get(key) or ""), str(theirs.get(key, {}).get("value") or "")) for key in OF_SERVER]
        # Who does not answer names nothing.
        return [(key, now, then) for key, now, then in pairs if now and then and now != then]


def _requests(payloads: Mapping[str, Any], model: str) -> Any:
    """Return what tells a model's requests from others, None where there are none of it."""
    found = payloads["models"].get(model)
    if not found:
        return None
    # Older runs have shapes that are equally frequent in the order that was drawn.
    shapes = sorted(found.get("shapes", ()), key=json.dumps)
    return payloads.get("sha256"), {**found, "expected": "", "shapes": shapes}
