"""The fairness manifest: under which conditions each path was measured, and whether they may be compared.

Each key has a class. must-equal: a difference between the compared paths refuses the run, unless `--allow KEY`
declares it. subject: what is being compared, printed. note: for the record. MLPerf has such rules on paper; here they
are checked.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from loadtest.payloads import PlannedRequest
from loadtest.plan import Measurement
from servepath.artifacts.reference import Reference

UNKNOWN = "unknown"
MUST_EQUAL, SUBJECT, NOTE = "must-equal", "subject", "note"
# Of each path and way.
PATH_KEYS: Mapping[str, str] = {
    "weights_sha256": MUST_EQUAL,
    "payloads_sha256": MUST_EQUAL,
    "plan": MUST_EQUAL,
    "cpu_model": MUST_EQUAL,
    "cpu_quota": MUST_EQUAL,
    "threads": MUST_EQUAL,
    "precision": MUST_EQUAL,
    "engine": SUBJECT,
    "engine_version": SUBJECT,
    "batching": SUBJECT,
    "settings": SUBJECT,
    "artifact": SUBJECT,
    "image": SUBJECT,
}
RUN_KEYS: Mapping[str, str] = {
    "environment": SUBJECT,
    "commit": SUBJECT,
    "started": NOTE,
    "temperatures": NOTE,
    "generator": NOTE,
}
DECLARABLE = tuple(key for key, kind in PATH_KEYS.items() if kind == MUST_EQUAL)

Values = Mapping[str, Any]


class UnfairError(Exception):
    """Paths differ in what must be equal; the text names the key, the values and the fix."""


def manifest(run: Values, paths: Mapping[Measurement, Values]) -> dict[str, Any]:
    """Return what run.json says under "fairness". Raises KeyError for a key without a class."""
    return {
        "run": {key: {"class": RUN_KEYS[key], "value": value} for key, value in run.items()},
        "paths": {
            str(measurement): {key: {"class": PATH_KEYS[key], "value": value} for key, value in values.items()}
            for measurement, values in paths.items()
        },
    }


def check(paths: Mapping[Measurement, Values], allowed: Collection[str]) -> None:
    """Raise UnfairError for the first key that must be equal, is not, and is not `allowed`.

    A run of sides compares those of each path and way alone, and so does this.
    """
    compared: dict[Measurement | None, dict[Measurement, Values]] = {}
    for measurement, values in paths.items():
        one = measurement._replace(side="") if measurement.side else None
        compared.setdefault(one, {})[measurement] = values
    for key in DECLARABLE:
        for each in compared.values():
            _check(key, each, allowed)


def _check(key: str, paths: Mapping[Measurement, Values], allowed: Collection[str]) -> None:
    holders: dict[str, list[str]] = {}
    for measurement, values in paths.items():
        holders.setdefault(str(values[key]), []).append(str(measurement))
    if len(holders) > 1 and key not in allowed:
        sides = "; ".join(f"{value}: {', '.join(names)}" for value, names in holders.items())
        # Artifacts and servers of earlier releases do not say everything.
        again = ": export or import again what is unknown" if UNKNOWN in holders else ""
        raise UnfairError(f"{key} must be equal and differs ({sides}); fix it{again}, or declare it: --allow {key}")


def weights(references: Sequence[Reference]) -> dict[str, str]:
    """Return a hash of what each model computes, by model: the sha256 of its reference, inputs and float64 answers.

    Frameworks write the same weights into different files, and equivalent models trained in two frameworks differ in
    the last digit. So a model whose answers agree with those of one before it, on the same inputs and within its
    declared tolerance, has that one's hash.
    """
    firsts: list[Reference] = []
    hashes: dict[str, str] = {}
    for reference in references:
        first = next((other for other in firsts if reference.computes_as(other)), reference)
        if first is reference:
            firsts.append(reference)
        hashes[reference.model] = _hash_of(first)
    return hashes


def _hash_of(reference: Reference) -> str:
    found = hashlib.sha256()
    for group in reference.groups:
        for name in sorted(group):
            found.update(name.encode() + np.ascontiguousarray(group[name]).tobytes())
    return found.hexdigest()


def payloads_hash(planned: Sequence[PlannedRequest]) -> str:
    """Return a hash of the inputs as they are cut and ordered; protocols and models' names are left out."""
    found = hashlib.sha256()
    for one in planned:
        for tensor in one.request.inputs:
            found.update(f"{tensor.name} {tensor.dtype} {tensor.shape}".encode() + tensor.data)
    return found.hexdigest()
