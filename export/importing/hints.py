"""What a file cannot say of its model, and a small TOML file beside it can: names, ranges, sizes, tolerance, inputs.

samples = ["request.npz"] # requests that it must answer: inputs by name, and the answers that are known
[names]                   # public names of tensors, by the file's
"StatefulPartitionedCall:0" = "note"
[ranges]                  # of an input's elements, lowest and highest
input_ids = [0, 30521]
[sizes]                   # of an open axis: what proofs and load tests use
length = [16, 7, 64]
[max_sizes]               # of an open axis: more is refused
length = 512
[tolerance]
rtol = 1e-4
atol = 1e-5
[inputs]                  # of a Python module or a TorchScript file, by the names that its forward has
x = { dtype = "FP32", shape = ["batch", 4] }
[torch]                   # of the same: what makes the model, its weights, the part of it that is served
class = "Net"
weights = "net.safetensors"
part = "encoder"
[gate]                    # how much accuracy a reduced precision may cost
cosine = 0.99             # of an answer's vector and its reference, at least
flips = 0.02              # share of answers whose largest element may be another one, of classes
lost = 0.01               # of the accuracy on labelled texts
labelled = "test.tsv"     # lines of LABEL, tab, TEXT
"""

import math
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from servepath.artifacts.spec import TensorSpec, Tolerance
from servepath.protocols.arrays import DTYPES


@dataclass(frozen=True, slots=True)
class Gate:
    """How much accuracy a reduced precision may cost; see reduced.Cost. classes: flips count, whatever the model is."""

    cosine: float = 0.99
    flips: float = 0.02
    lost: float = 0.01
    labelled: Path | None = None
    classes: bool = False


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of a model, by public name where a tensor is meant; nothing where the user says nothing.

    inputs: by the model's own names, each with its axes. trust_code: the user knows where the file comes from, and code
    in it may run.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    max_sizes: Mapping[str, int] = field(default_factory=dict)
    tolerance: Tolerance | None = None
    samples: Sequence[Path] = ()
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    class_name: str = ""
    weights: Path | None = None
    part: str = ""
    gate: Gate = Gate()
    trust_code: bool = False

    def read_samples(self) -> list[dict[str, NDArray[Any]]]:
        """Return the samples' arrays by name. Raises ExportError for a file that is no .npz, or one with a pickle."""
        return [_npz(path) for path in self.samples]


def read_hints(path: Path | None) -> Hints:
    """Read the TOML file. Raises ExportError that names the file, the key and what is wrong with it."""
    if path is None:
        return Hints()
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    known = {"names": _name, "ranges": _range, "sizes": _sizes, "max_sizes": _size, "inputs": _tensor, "torch": _text}
    if unknown := sorted(raw.keys() - known.keys() - {"tolerance", "samples", "gate"}):
        raise ExportError(
            f"{path}: unknown key {unknown[0]}; there are {', '.join((*known, 'tolerance', 'samples', 'gate'))}"
        )
    tables: dict[str, dict[str, Any]] = {}
    for name, read in known.items():
        table = _read(path, name, _table, raw.get(name, {}))
        tables[name] = {key: _read(path, f"{name}.{key}", read, value) for key, value in table.items()}
    tolerance = raw.get("tolerance")
    found = None if tolerance is None else _read(path, "tolerance", _tolerance, tolerance)
    gate = _read(path, "gate", _gate, raw.get("gate", {}))
    samples = _read(path, "samples", _file_names, raw.get("samples", []))
    torch = tables.pop("torch")
    if unknown := sorted(torch.keys() - {"class", "weights", "part"}):
        raise ExportError(f"{path}: unknown key torch.{unknown[0]}; there are class, weights, part")
    return Hints(
        names=tables["names"],
        ranges=tables["ranges"],
        sizes=tables["sizes"],
        max_sizes=tables["max_sizes"],
        inputs=tables["inputs"],
        tolerance=found,
        samples=[path.parent / name for name in samples],
        class_name=torch.get("class", ""),
        weights=path.parent / torch["weights"] if "weights" in torch else None,
        part=torch.get("part", ""),
        gate=replace(gate, labelled=path.parent / gate.labelled) if gate.labelled else gate,
    )


def printable(name: str) -> str:
    """Return a tensor's own name as one that may be public: "#" parts the groups of a reference."""
    return "".join(c if c.isprintable() and c != "#" else "_" for c in name)


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} is not a .npz file of arrays without pickled objects: {error}") from error


def _file_names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of file names")
    return value


def _read(path: Path, key: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ExportError(f"{path}: {key}: {error}, got {value!r:.80}") from error


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a table")  # noqa: TRY004 - as all else that is not as expected
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value or "#" in value:
        raise ValueError("expected a name without #")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected text")
    return value


def _tensor(value: Any) -> TensorSpec:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape"} or not isinstance(value["shape"], list):
        raise ValueError('expected { dtype = "FP32", shape = ["batch", 4] }')
    if value["dtype"] not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)} as dtype")
    return TensorSpec.from_dict({"name": "", **value})


def _range(value: Any) -> tuple[float, float]:
    match value:
        case [int() | float() as low, int() | float() as high] if -math.inf < low <= high < math.inf:
            return float(low), float(high)
    raise ValueError("expected [lowest, highest]")


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or any(type(size) is not int or size < 1 for size in value):
        raise ValueError("expected a list of whole numbers from 1 on")
    return tuple(value)


def _size(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("expected a whole number from 1 on")
    return value


def _gate(value: Any) -> Gate:
    table = dict(_table(value))
    labelled = Path(_text(table.pop("labelled"))) if "labelled" in table else None
    shares = all(type(each) in {int, float} and 0 <= each <= 1 for each in table.values())
    if table.keys() - {"cosine", "flips", "lost"} or not shares:
        raise ValueError('expected cosine, flips and lost, each from 0 to 1, and labelled = "FILE"')
    return Gate(**table, labelled=labelled, classes="flips" in table)


def _tolerance(value: Any) -> Tolerance:
    if not isinstance(value, dict) or value.keys() not in ({"rtol", "atol"}, {"cosine"}, {"top_k"}):
        raise ValueError("expected rtol and atol, or cosine, or top_k")
    if not all(0 <= float(each) < math.inf for each in value.values()):
        raise ValueError("expected numbers from 0 on")
    return Tolerance.from_dict(value)
