"""capacity.json of a run that is there already: what `python -m report` shows of it, written whole after every path."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.plan import Measurement
from servepath.artifacts import atomic
from servepath.results.names import CAPACITY_FILE, RUN_FILE
from servepath.settings import SettingsError

NAME = CAPACITY_FILE
# What must be the same for earlier paths to stay: the file says it once for all of them.
ALIKE = ("slo_p99_ms", "git_commit")


def run_folder(results: Path) -> Path:
    """Return the newest run's own folder, or a run's. Raises SettingsError naming what makes one."""
    folder = results / "latest" if (results / "latest").exists() else results
    if not (folder / RUN_FILE).is_file():
        raise SettingsError(f"{folder} is not a run; capacity is added to a run: make loadtest")
    return folder.resolve()  # the newest now: another may begin meanwhile


@dataclass(slots=True)
class Attachment:
    """The capacities of a run. facts: what was asked for, and by which generator."""

    folder: Path
    facts: dict[str, Any]
    paths: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, settings: Mapping[Measurement, str]) -> None:
        """Discard earlier results with these settings; others stay, for the same objective and commit.

        Raises SettingsError for an invalid capacity.json, and for requests other than the run's.
        """
        self._check_payloads({measurement.path.model for measurement in settings})
        self.paths = self._kept({(*each.path, each.via, said) for each, said in settings.items()})
        for measurement in settings:
            for file in self.folder.glob(f"capacity/{measurement}-*.parquet"):
                file.unlink()
        self.save(complete=False)  # however it ends, the file tells of no rows that are gone

    def save(self, *, complete: bool) -> None:
        """Write the file. `complete` says that every search ended by itself."""
        content = {"capacity": {**self.facts, "complete": complete, "paths": self.paths}}
        atomic.write_file(self.folder / NAME, json.dumps(content, indent=2) + "\n")

    def _check_payloads(self, models: Collection[str]) -> None:
        """Raise SettingsError unless the run sent the same requests: its latency and this capacity are shown as one."""
        sent = json.loads((self.folder / RUN_FILE).read_text()).get("payloads")
        for model in sorted(models) if sent is not None else ():
            here, there = (_requests(payloads, model) for payloads in (self.facts["payloads"], sent))
            if there is not None and here != there:
                file = f"--payloads {sent['file']}" if "file" in sent else "no --payloads"
                raise SettingsError(
                    f"{self.folder} has other requests of {model}: say what that run said, --rows and {file}"
                )

    def _kept(self, ours: Collection[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
        try:
            found = json.loads((self.folder / NAME).read_text())["capacity"]
            alike = all(found.get(name) == self.facts[name] for name in ALIKE)
            before = [path for path in found["paths"] if _owner(path) not in ours]
            theirs = found.get("payloads", {}).get("models", {})
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{self.folder / NAME} cannot be read ({error!r}); remove it") from error
        if not alike:
            return []
        # Their requests were those of the run, too.
        payloads = self.facts["payloads"]
        self.facts["payloads"] = {**payloads, "models": {**theirs, **payloads["models"]}}
        return before


def _owner(path: Mapping[str, str]) -> tuple[str, str, str, str]:
    return path["model"], path["stack"], path["via"], path.get("settings", "default")


def _requests(payloads: Mapping[str, Any], model: str) -> Any:
    """Return what tells a model's requests from others, None where there are none of it."""
    found = payloads["models"].get(model)
    return found and (payloads.get("sha256"), {key: value for key, value in found.items() if key != "expected"})
