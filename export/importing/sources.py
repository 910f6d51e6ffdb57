"""The files that an import is made from, found without a framework: a version is theirs."""

from collections.abc import Sequence
from pathlib import Path

# Files beside an ONNX file that may hold its weights: their names are in it, and any one may be named.
EXTERNAL = (".data", ".bin", ".weights", ".onnx_data")


def source_files(path: Path) -> Sequence[Path]:
    """Return the file, or all files of a folder; of an ONNX file also those beside it that may hold its weights."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    beside = (each for each in path.parent.iterdir() if each.is_file() and each.name.endswith(EXTERNAL))
    return [path, *sorted(beside)] if path.suffix != ".keras" else [path]
