"""capacity.json of a run that is there already: what `python -m report` shows of it, written whole after every path."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.config import ConfigError
from loadtest.plan import Block
from store import atomic

NAME = "capacity.json"


def run_folder(results: Path) -> Path:
    """Give the newest run's own folder, or a run's. Raises ConfigError naming what makes one."""
    folder = results / "latest" if (results / "latest").exists() else results
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder} is no run, and capacity is added to one; run: make loadtest")
    return folder.resolve()  # the newest now: another may begin meanwhile


@dataclass(slots=True)
class Addition:
    """The capacities of a run. facts: what was asked for, and by which generator."""

    folder: Path
    facts: Mapping[str, Any]
    paths: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, blocks: Sequence[Block]) -> None:
        """Forget what was found of these blocks before; of others it stays, where the objective was the same."""
        for block in blocks:
            for file in self.folder.glob(f"capacity/{block}-*.parquet"):
                file.unlink()
        ours = {(*block.path, block.via) for block in blocks}
        self.paths = [path for path in self._before() if (path["model"], path["stack"], path["via"]) not in ours]

    def save(self, *, complete: bool) -> None:
        """Write the file. `complete` says that every search ended by itself."""
        content = {"capacity": {**self.facts, "complete": complete, "paths": self.paths}}
        atomic.write_file(self.folder / NAME, json.dumps(content, indent=2) + "\n")

    def _before(self) -> list[dict[str, Any]]:
        try:
            found = json.loads((self.folder / NAME).read_text())["capacity"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.folder / NAME} cannot be read ({error!r}); remove it") from error
        return list(found["paths"]) if found["slo_p99_ms"] == self.facts["slo_p99_ms"] else []
