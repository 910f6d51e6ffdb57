"""A comparison of paths for people, as a table, and for programs."""

import math
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from servepath.client.core import Prediction
from servepath.protocols.comparison import ComparedPath, Comparison, Verdict

# Columns where the output is no terminal.
WIDTH = 200
# Elements of an output that are shown.
SHOWN = 4
STYLES = {Verdict.EQUAL: "green", Verdict.DIFFERENT: "bold red", Verdict.FAILED: "red"}
COLUMNS = ("difference", "ULP", "gateway ms", "queue ms", "backend ms")


def to_json(model: str, comparison: Comparison[Prediction]) -> dict[str, Any]:
    """Return a comparison as nested dicts and lists; an infinite difference, as between a number and none, is None."""
    return {
        "model": _model_of(model),
        "baseline": comparison.baseline,
        "verdict": comparison.verdict.name,
        "paths": [_path_json(path) for path in comparison.paths],
    }


def show(model: str, comparison: Comparison[Prediction]) -> None:
    """Print the table of a comparison, then a sentence for each path that differs or failed, and the verdict."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(table(model, comparison))
    for line in sentences(model, comparison):
        console.print(Text(line), soft_wrap=True)


def table(model: str, comparison: Comparison[Prediction]) -> Table:
    """Return a row for each path; a star marks the one that the others are compared with."""
    grid = Table("path", "answer", header_style="bold")
    for name in COLUMNS:
        grid.add_column(name, justify="right")
    for name in ("engine", "precision", "version", "sha256", "verdict"):
        grid.add_column(name, overflow="fold")
    for path in comparison.paths:
        name = _model_of(model) + f"@{path.stack}" + "*" * (path.stack == comparison.baseline)
        verdict = Text(path.verdict.name, STYLES[path.verdict])
        grid.add_row(Text(name), *map(Text, _cells(path)), verdict)
    return grid


def sentences(model: str, comparison: Comparison[Prediction]) -> Iterator[str]:
    """Yield what is wrong, path by path, and the verdict."""
    for path in comparison.paths:
        said = path.detail
        if path.error:
            said = f"{path.error.text} ({path.error.code_name}, {path.error.reason})"
        if said:
            yield f"{_model_of(model)}@{path.stack}: {said}"
    count = len(comparison.paths)
    baseline = f", compared with {_model_of(model)}@{comparison.baseline}" if comparison.baseline else ""
    yield f"{comparison.verdict.name}: {count} path{'s' * (count != 1)}{baseline}"


def _cells(path: ComparedPath[Prediction]) -> tuple[str, ...]:
    if path.answer is None:
        return ("-",) * 10
    served = path.answer.served
    return (
        "; ".join(f"{name} {_shortened(array.ravel().tolist())}" for name, array in path.answer.outputs.items()) or "-",
        "-" if path.difference is None else f"{path.difference:.2g}",
        "-" if path.ulp is None else str(path.ulp),
        *(f"{spent / 1000:.2f}" for spent in (served.gateway_us, served.queue_us, served.backend_us)),
        f"{served.engine} {served.engine_version}".strip() or "-",
        served.precision or "-",
        str(served.version or "-"),
        served.sha256[:8] or "-",
    )


def _shortened(elements: list[Any]) -> str:
    shown = [f"{each:.7g}" if isinstance(each, float) else _text(each) for each in elements[:SHOWN]]
    return f"[{', '.join(shown)}{', ...' * (len(elements) > SHOWN)}]"


def _text(element: Any) -> str:
    return element.decode(errors="backslashreplace") if isinstance(element, bytes) else str(element)


def _path_json(path: ComparedPath[Prediction]) -> dict[str, Any]:
    return {
        "stack": path.stack,
        "verdict": path.verdict.name,
        "difference": None if path.difference == math.inf else path.difference,
        "ulp": path.ulp,
        "detail": path.detail,
        "error": path.error._asdict() if path.error else None,
        "outputs": path.answer.to_lists() if path.answer else None,
        "served": path.answer.served._asdict() if path.answer else None,
    }


def _model_of(name: str) -> str:
    return name.partition("@")[0]
