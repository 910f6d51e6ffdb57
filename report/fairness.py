"""What must be equal for a comparison to be fair, what is compared, and what is only noted (run.json's manifest)."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from report.rows import Rows

MUST_EQUAL, SUBJECT, NOTE = "must-equal", "subject", "note"

Manifest = Mapping[str, Mapping[str, Any]]


class Difference(NamedTuple):
    """A key whose value is not the same everywhere. where: of which path, if of one. values: by path, or by run."""

    where: str
    key: str
    kind: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        place = f" of {self.where}" if self.where else ""
        return f"{self.key}{place}: {', '.join(f'{short(value)} ({name})' for name, value in self.values.items())}"


def differences(manifests: Mapping[str, Manifest], where: str = "") -> Iterator[Difference]:
    """Yield every key that differs between the manifests that have it, must-equal and subjects; notes may differ."""
    for key in dict.fromkeys(key for manifest in manifests.values() for key in manifest):
        having = {name: manifest[key] for name, manifest in manifests.items() if key in manifest}
        values = {name: entry["value"] for name, entry in having.items()}
        kind = MUST_EQUAL if any(entry["class"] == MUST_EQUAL for entry in having.values()) else SUBJECT
        noted = all(entry["class"] == NOTE for entry in having.values())
        if not noted and any(value != next(iter(values.values())) for value in values.values()):
            yield Difference(where, key, kind, values)


def undeclared(run: Rows) -> Iterator[str]:
    """Yield what differs between a run's paths, must not, and was not declared by --allow."""
    compared: dict[str, dict[str, Manifest]] = {}
    for name, manifest in run.facts["fairness"]["paths"].items():
        # A run of sides compares those of each path and way alone.
        path, _, side = name.partition("~")
        compared.setdefault(path if side else "", {})[name] = manifest
    for manifests in compared.values():
        for difference in differences(manifests):
            if difference.kind == MUST_EQUAL and difference.key not in run.facts["allowed"]:
                yield f"must be equal and differs: {difference}"


def short(value: object) -> str:
    """Return a value as people read it; a hash by its first letters."""
    text = "-" if value is None else str(value)
    hexadecimal = len(text) in {40, 64} and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if hexadecimal else text
