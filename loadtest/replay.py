"""Requests from a file, `--payloads FILE`, read and held against the model's signature before any of them is sent.

FILE is an .npz of arrays by tensor name, whose rows are cut into requests of --rows (NAME#1, NAME#2 ... are further
groups, as in a reference); a .jsonl with one request per line, {"x": [[1, 2]]}; a .json with one; a folder of .npz and
.json files, each of them one request. A model's outputs, where they stand beside the inputs, are what it must answer.
"""

import hashlib
import itertools
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadtest.payloads import PlannedRequest
from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import BATCH, FRACTIONS, Spec, TensorSpec
from servepath.protocols.arrays import DTYPES, Array, from_values
from servepath.protocols.errors import BadInput
from servepath.protocols.probes import Expected
from servepath.protocols.signature import Signature
from servepath.protocols.types import Request
from servepath.settings import SettingsError

# Every target keeps its requests encoded: of a larger file, some rows or lines are enough.
MAX_REQUESTS, MAX_BYTES = 20_000, 64 * 2**20
KINDS = ".npz, .jsonl or .json file, or a folder of .npz and .json files"
HASHED_BYTES = 2**20


class _Entry(NamedTuple):
    """What stands at one place: values by tensor name. cut: they are rows of several requests."""

    where: str
    values: Mapping[str, Any]
    cut: bool = False


def fingerprint(path: Path) -> str:
    """Return the sha256 of a file, or of names and contents of a folder's. Raises SettingsError."""
    found = hashlib.sha256()
    try:
        for file in _files(path):
            if path.is_dir():
                found.update(f"{file.name}\n{file.stat().st_size}\n".encode())
            with file.open("rb") as content:
                while part := content.read(HASHED_BYTES):
                    found.update(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.hexdigest()


def read_requests(path: Path, reference: Reference, *, rows: int, say: Callable[[str], object]) -> list[PlannedRequest]:
    """Return a file's requests to a model, in the file's order; reference: the model's.

    say: is told how many rows are in no request, being too few for a last one of so many `rows`.
    Raises SettingsError that names file, place, tensor and what is wrong, also for more than MAX_REQUESTS or MAX_BYTES.
    """
    planned: list[PlannedRequest] = []
    reader, size = _Reader(reference), 0
    left_over: list[int] = []
    try:
        for entry in itertools.chain.from_iterable(
            _cut(whole, reference.spec, rows, left_over.append) for whole in _entries(path)
        ):
            planned.append(reader.request(entry))
            size += sum(len(tensor.data) for tensor in planned[-1].request.inputs)
            if len(planned) > MAX_REQUESTS or size > MAX_BYTES:
                raise _too_large(entry.where)
            if (planned[0].expected is None) != (planned[-1].expected is None):
                raise SettingsError(f"{entry.where}: every request has the model's outputs in the file, or none has")
    except OSError as error:
        raise _unreadable(path, error) from error
    if not planned:
        raise SettingsError(f"{path} holds no request")
    if left := sum(left_over):
        together = left + sum(one.rows for one in planned)
        what = f"{left:,} of {together:,} rows are not sent to {reference.model}"
        say(f"{path}: {what}: they do not fill a request of --rows {rows}")
    return planned


def _files(path: Path) -> list[Path]:
    """Return the files that are read. Raises SettingsError when there is none."""
    if not path.is_dir():
        if path.suffix not in {".npz", ".jsonl", ".json"}:
            raise SettingsError(f"--payloads: {path} is not one of these: {KINDS}")
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in {".npz", ".json"} and file.is_file())
    if not found:
        raise SettingsError(f"--payloads: {path} holds no .npz or .json file")
    return found


def _entries(path: Path) -> Iterator[_Entry]:
    for file in _files(path):
        if file.suffix == ".jsonl":
            yield from _lines(file)
        elif file.suffix == ".json":
            with file.open("rb") as content:
                yield _Entry(str(file), _object(content.read(MAX_BYTES + 1), str(file)))
        elif path.is_dir():
            yield _Entry(str(file), _arrays(file))
        else:
            yield from _groups(file)


def _lines(file: Path) -> Iterator[_Entry]:
    with file.open("rb") as content:
        for number in itertools.count(1):
            line = content.readline(MAX_BYTES + 1)
            if not line:
                return
            if line.strip():
                where = f"{file}, line {number}"
                yield _Entry(where, _object(line, where))


def _object(text: bytes, where: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise _too_large(where)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{where}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise SettingsError(f'{where}: not an object of values by tensor name, such as {{"x": [[1, 2]]}}')
    return found


def _groups(file: Path) -> Iterator[_Entry]:
    groups: dict[str, dict[str, Any]] = {}
    for key, array in _arrays(file).items():
        name, _, mark = key.partition("#")
        groups.setdefault(mark, {})[name] = array
    for mark, arrays in groups.items():
        yield _Entry(f"{file}, group #{mark}" if mark else str(file), arrays, cut=True)


def _arrays(file: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise _too_large(str(file))
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(f"{file}: not an .npz of arrays ({error})") from error


def _cut(entry: _Entry, spec: Spec, rows: int, left_over: Callable[[int], object]) -> Iterator[_Entry]:
    """Yield a request's values after another's: so many rows of each array, or all where there are no rows to cut.

    left_over: is told how many rows after these are too few for another request.
    """
    if not (entry.cut and spec.by_rows):
        if rows > 1:
            raise SettingsError(f"--rows {rows}: the requests of {entry.where} have the rows that they have")
        yield entry
        return
    counts = {name: len(array) if np.ndim(array) else 0 for name, array in entry.values.items()}
    least = min(counts, key=lambda name: counts[name])
    if len(set(counts.values())) > 1 or counts[least] < rows:
        said = ", ".join(f"{name!r} has {count} rows" for name, count in counts.items())
        raise SettingsError(f"{entry.where}: {said}; as many of each are needed, and at least --rows {rows}")
    left_over(counts[least] % rows)
    for start in range(0, counts[least] - rows + 1, rows):
        values = {name: array[start : start + rows] for name, array in entry.values.items()}
        yield _Entry(f"{entry.where}, rows {start} to {start + rows - 1}", values)


class _Reader:
    """Turns what stands in a file into requests of one model. Every fault is a SettingsError that names the place."""

    def __init__(self, reference: Reference) -> None:
        self._model = reference.model
        self._spec = reference.spec
        self._signature = Signature(reference.spec)
        self._outputs = {tensor.name for tensor in self._spec.outputs}
        self._names = {tensor.name for tensor in self._spec.inputs} | self._outputs

    def request(self, entry: _Entry) -> PlannedRequest:
        """Return the request, once it fits the model's signature."""
        unknown = next((name for name in entry.values if name not in self._names), None)
        if unknown is not None:
            raise self._error(entry, f"tensor {unknown!r} is none of {sorted(self._names)}")
        for tensor in self._spec.inputs:
            if tensor.name not in entry.values:
                raise self._error(entry, f"input {tensor.name!r} is missing")
        try:
            inputs = tuple(from_values(one.name, one.dtype, entry.values[one.name]) for one in self._spec.inputs)
            request = Request(self._model, 0, inputs)
            rows = self._signature.check(request)
        except BadInput as error:
            raise self._error(entry, error.text) from error
        if not rows:
            raise self._error(entry, "it has no rows")
        return PlannedRequest(request, rows, self._expected(entry, rows))

    def _expected(self, entry: _Entry, rows: int) -> tuple[Expected, ...] | None:
        if not self._outputs & entry.values.keys():
            return None
        for tensor in self._spec.outputs:
            if tensor.name not in entry.values:
                raise self._error(entry, f"output {tensor.name!r} is missing, and others are there")
        return tuple(self._output(entry, tensor, rows) for tensor in self._spec.outputs)

    def _output(self, entry: _Entry, tensor: TensorSpec, rows: int) -> Expected:
        try:
            values = _numbers(tensor.dtype, entry.values[tensor.name])
        except (TypeError, ValueError, OverflowError):
            what = f"output {tensor.name!r}: not numbers of {tensor.dtype}, or rows differ in length"
            raise self._error(entry, what) from None
        known = {BATCH: rows} if self._spec.by_rows else {}
        wanted = [known.get(axis, axis) if isinstance(axis, str) else axis for axis in tensor.shape]
        fits = len(wanted) == values.ndim
        if not fits or any(a != b for a, b in zip(wanted, values.shape, strict=True) if not isinstance(a, str)):
            raise self._error(entry, f"output {tensor.name!r}: shape {list(values.shape)}, expected {wanted}")
        tolerance = self._spec.tolerance_of(tensor)
        return Expected(tensor.name, tensor.dtype, values.shape, values, tolerance.limits(values), tolerance)

    def _error(self, entry: _Entry, what: str) -> SettingsError:
        return SettingsError(f"{entry.where}: {what}; it must fit the model {self._model}")


def _numbers(dtype: str, values: Any) -> Array:
    """Return an output's values: float64, or whole numbers as they are. Raises TypeError, ValueError, OverflowError."""
    if dtype in FRACTIONS:
        return np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        found = np.asarray(values, DTYPES[dtype])
    if not np.array_equal(found, np.asarray(values)):
        raise ValueError(dtype)
    return found


def _too_large(where: str) -> SettingsError:
    most = f"{MAX_REQUESTS:,} requests or {MAX_BYTES // 2**20} MiB"
    return SettingsError(f"{where}: here are more than {most}; keep fewer requests in the file")


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"--payloads: {path} cannot be read ({error.strerror})")
