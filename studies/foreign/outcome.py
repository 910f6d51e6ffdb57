"""What came of one model's comparison, and the table of all."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from servepath.artifacts.manifest import artifact_folder, current_version, read_manifest
from servepath.demo.compare import SUMMARY, Workplace, conclude
from servepath.protocols.stacks import PATH_STACKS

REFUSED = re.compile(r"^ *no path on (\S+): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """code: of `servepath compare`. paths: a line each. refused: why, by stack. conclusion: what was recommended."""

    model: str
    code: int
    paths: Sequence[str]
    refused: Mapping[str, str]
    conclusion: str

    @classmethod
    def read(cls, model: str, code: int, said: str) -> Self:
        """Read what a comparison printed and left; of one that failed, the last line that it printed."""
        refused = dict(REFUSED.findall(said))
        if code:
            lines = said.strip().splitlines() or ["it printed nothing"]
            return cls(model, code, (), refused, lines[-1])
        summary = json.loads(SUMMARY.read_text())
        paths = [_path(model, row) for row in summary["paths"]]
        valid = "" if summary["valid"] else " (times not valid)"
        return cls(model, code, paths, refused, " ".join(conclude(summary)) + valid)


def _path(model: str, row: Mapping[str, Any]) -> str:
    exports, stack = Workplace(model).exports, str(row["stack"])
    folder = artifact_folder(exports, model, PATH_STACKS[stack].artifact_format, current_version(exports, model))
    manifest = read_manifest(folder)
    batched = "batched" if manifest.spec.row_independent else "one request at a time"
    counts = f"{row['requests']:,} requests, {row['errors']} errors, {row['wrong_answers']} wrong"
    return (
        f"{model}@{stack} | {row['engine']} {row['engine_version']} | {batched} | "
        f"{manifest.parity.max_abs_difference:.2g} | {row['response_p50_ms']:.3g} | {counts}"
    )


def lines_of(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of the table, and under it each model's refusals and conclusion."""
    if not outcomes:
        return
    yield "path | engine | requests | largest difference | p50, ms | load test"
    for outcome in outcomes:
        yield from outcome.paths
    for outcome in outcomes:
        for stack, why in outcome.refused.items():
            yield f"no {outcome.model}@{stack}: {why}"
        yield f"{outcome.model}: {'failed: ' if outcome.code else ''}{outcome.conclusion}"
