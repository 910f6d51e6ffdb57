"""capacity.json of a run that is there already: what `python -m report` shows of it, written whole after every path."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.loaded_run import LoadedRun
from loadtest.plan import Measurement
from servepath.artifacts import atomic
from servepath.results.names import CAPACITY_FILE, RUN_FILE, key_of
from servepath.settings import SettingsError

NAME = CAPACITY_FILE
FOLDER = "capacity"
# What must be the same for earlier paths to stay: the file says it once for all of them.
ALIKE = {"slo_p99_ms": "objective in ms", "git_commit": "commit"}


def run_folder(results: Path) -> Path:
    """Return the newest run's own folder, or a run's. Raises SettingsError naming what makes one."""
    folder = results / "latest" if (results / "latest").exists() else results
    if not (folder / RUN_FILE).is_file():
        raise SettingsError(f"{folder} is not a run; capacity is added to a run: make loadtest")
    return folder.resolve()  # the newest now: another may begin meanwhile


@dataclass(slots=True)
class Attachment:
    """The capacities of a run. facts: what was asked for, and by which generator.

    paths: those of the file that stay, then what was added. others: which results of the file on disk do not stay, by
    why: another objective, commit or server. They go with the first result. added: whether there is one.
    """

    folder: Path
    facts: dict[str, Any]
    paths: list[dict[str, Any]] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)
    added: bool = False

    def begin(self, found: Mapping[Measurement, Mapping[str, str]]) -> None:
        """Read earlier results and change nothing. found: who answers now.

        Raises SettingsError for an invalid capacity.json, and for other requests or servers than the run's.
        """
        run = LoadedRun.read(self.folder)
        fix = "say what that run said, --rows and {file}"
        run.refuse_other_requests(self.facts["payloads"], {each.path.model for each in found}, fix)
        run.refuse_other_servers({str(each): identity for each, identity in found.items()})
        self._clear()
        self.paths = self._stay(run)

    def gone(self) -> Iterator[str]:
        """Yield which results go with the first new one, and why."""
        for why, names in self.others.items():
            yield f"with the first new result {NAME} no longer has {', '.join(names)}: {why}"

    def rows_file(self, measurement: Measurement, number: int) -> Path:
        """Return where the rows of a try are until its search ends."""
        return self._searching / f"{measurement}-{number:03d}.parquet"

    def add(self, measurement: Measurement, entry: dict[str, Any], *, ended: bool) -> None:
        """Put what a search found, and its rows, in the place of the path's earlier result.

        The rows of results that do not stay go, too. One that did not end by itself takes no earlier result's place.
        """
        stay = [each for each in self.paths if _owner(each) != _owner(entry)]
        new = sorted(self._searching.glob(f"{measurement}-*.parquet"))
        if not ended and (len(stay) < len(self.paths) or self.others):
            _remove(new)
            return
        kept = {_rows_name(each) for each in stay}
        _remove(file for file in self._rows.glob("*.parquet") if file.name.rpartition("-")[0] not in kept)
        for file in new:
            file.rename(self._rows / f"{_rows_name(entry)}{file.name.removeprefix(str(measurement))}")
        self.paths = [*stay, entry if ended else {**entry, "ended": False}]
        self.others, self.added = {}, True

    def save(self) -> None:
        """Write the file, if there is anything new."""
        if self.added:
            content = {"capacity": {**self.facts, "complete": self.complete, "paths": self.paths}}
            atomic.write_file(self.folder / NAME, json.dumps(content, indent=2) + "\n")
        self._clear()

    @property
    def complete(self) -> bool:
        """Return whether every search in it ended by itself."""
        return all(path.get("ended", True) for path in self.paths)

    def _stay(self, run: LoadedRun) -> list[dict[str, Any]]:
        """Return the results of the file that stay; their requests were those of the run, too."""
        try:
            found = json.loads((self.folder / NAME).read_text())["capacity"]
            judged = [(path, _named(path), self._refusal(found, path, run)) for path in found["paths"]]
            theirs = found.get("payloads", {}).get("models", {})
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{self.folder / NAME} cannot be read ({error!r}); remove it") from error
        stay = [path for path, _, why in judged if not why]
        for _, name, why in judged:
            if why:
                self.others.setdefault(why, []).append(name)
        if stay:
            payloads = self.facts["payloads"]
            self.facts["payloads"] = {**payloads, "models": {**theirs, **payloads["models"]}}
        return stay

    def _refusal(self, found: Mapping[str, Any], path: Mapping[str, Any], run: LoadedRun) -> str:
        """Return why a result of a file cannot stay beside those of now, "" where it can."""
        for name, word in ALIKE.items():
            if found.get(name) != self.facts[name]:
                return f"their {word} is {found.get(name)}, not {self.facts[name]}"
        had = run.had(key_of(*_owner(path)[:2]), path)
        return "" if had else "the run loaded another engine or artifact"

    def _clear(self) -> None:
        """Remove what a search left that did not end."""
        if self._searching.is_dir():
            _remove(self._searching.iterdir())
            self._searching.rmdir()

    @property
    def _rows(self) -> Path:
        return self.folder / FOLDER

    @property
    def _searching(self) -> Path:
        return self._rows / "searching"


def _owner(path: Mapping[str, str]) -> tuple[str, str, str]:
    return f"{path['model']}@{path['stack']}", path["via"], path.get("settings", "default")


def _named(path: Mapping[str, str]) -> str:
    name, via, settings = _owner(path)
    return f"{name} {via} ({settings})"


def _rows_name(path: Mapping[str, str]) -> str:
    """Return what the names of a result's files of rows begin with: of other settings than the default, a hash, too."""
    name, via, settings = _owner(path)
    if settings == "default":
        return key_of(name, via)
    return f"{key_of(name, via)}~{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _remove(files: Iterable[Path]) -> None:
    for file in list(files):
        file.unlink()
