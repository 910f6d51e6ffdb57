"""The gate before a reduced precision: what it costs in accuracy is measured, on golden rows and on labelled texts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from export.importing.answers import largest, scale
from export.importing.compare import answers_alone
from export.importing.errors import Refused
from export.importing.hints import Gate, Hints
from export.importing.prove import Proof, Run
from export.importing.rows import find_padded, find_rows
from export.importing.trial import Failed, Trial
from servepath.artifacts.spec import BATCH, FRACTIONS, Spec, TensorSpec, Tolerance
from servepath.artifacts.text import IDS, MASK, TOKENIZER, TYPES, read_text_form

# Of the golden rows' largest difference: other rows may be further off.
MARGIN = 2.0
# A model in full and in reduced precision.
Runs = tuple[Run, Run]


class Cost(NamedTuple):
    """What a reduced precision costs.

    cosine: the least, of an answer's vector and its reference. flips: share of vectors whose largest element is another
    one. accuracy: shares of labelled texts that are answered correctly, in full and in reduced precision.
    """

    cosine: float
    flips: float
    accuracy: tuple[float, float] | None = None

    def beyond(self, gate: Gate, *, classes: bool) -> str:
        """Return what is beyond a gate, "" where nothing is. classes: the largest element of a vector is the answer."""
        if not self.cosine >= gate.cosine:
            return f"the least cosine of an answer and its reference is {self.cosine:.4g}, the gate {gate.cosine:g}"
        if classes and self.flips > gate.flips:
            return f"{self.flips:.1%} of the answers have another largest element, the gate is {gate.flips:.1%}"
        if self.accuracy and self.accuracy[0] - self.accuracy[1] > gate.lost:
            full, reduced = self.accuracy
            return f"accuracy falls from {full:.3f} to {reduced:.3f}, the gate is {gate.lost:g}"
        return ""

    def __str__(self) -> str:
        known = self.accuracy and f", accuracy {self.accuracy[1]:.3f} (in full {self.accuracy[0]:.3f})"
        return f"least cosine {self.cosine:.4f}, another largest element in {self.flips:.1%}{known or ''}"


def judge(proof: Proof, runs: Runs, hints: Hints, precision: str, text: Path | None) -> tuple[Spec, Cost]:
    """Return the model's spec in a reduced precision, and what that costs. Raises Refused where it is beyond the gate.

    runs: the model in full and in reduced precision. text: the folder of its text form, if it has one.
    """
    spec, labelled = proof.spec, hints.gate.labelled
    if spec.precision == precision:
        raise Refused(f"most of its weights are {precision} already: that is what is served without it")
    found = [
        answers_alone(spec, {each.name: group[each.name] for each in spec.inputs}, runs[1]) for group in proof.groups
    ]
    outputs: list[TensorSpec] = []
    cosine, flips = 1.0, 0.0
    for tensor in spec.outputs:
        pairs = [(own[tensor.name], group[tensor.name]) for own, group in zip(found, proof.groups, strict=True)]
        if tensor.dtype in FRACTIONS:
            outputs.append(replace(tensor, tolerance=_tolerance(pairs)))
            compared = _vectors(pairs, by_rows=spec.by_rows)
            cosine = min(cosine, *(_least_cosine(own, known, by_rows=spec.by_rows) for own, known in compared))
            flips = max(flips, _flips(pairs))
        elif any(not np.array_equal(own, known) for own, known in pairs):
            raise Refused(f"output {tensor.name!r}, of whole numbers, is another one in {precision}")
        else:
            outputs.append(tensor)
    if labelled is not None and text is None:
        raise Refused(f"[gate] labelled: the model takes no texts, which {labelled.name} holds")
    accuracy = _accuracy(labelled, text, spec, runs) if labelled is not None and text is not None else None
    cost = Cost(cosine, flips, accuracy)
    if beyond := cost.beyond(hints.gate, classes=text is not None or hints.gate.classes):
        raise Refused(f"{beyond}; say another [gate] in a spec file (--spec) if that will do")
    widest = max((t.tolerance for t in outputs if t.tolerance), key=lambda each: each.atol, default=spec.tolerance)
    made = replace(spec, outputs=tuple(outputs), tolerance=widest, precision=precision)
    return _with_rows(made, proof, runs[1], hints), cost


def _tolerance(pairs: Sequence[tuple[Any, Any]]) -> Tolerance:
    """Return the tolerance of an output, from its answers and their references."""
    apart, size = max(largest(*each) for each in pairs), max(scale(known) for _, known in pairs)
    return Tolerance(0.0, max(MARGIN * apart, float(np.finfo(np.float32).eps) * size))


def _with_rows(spec: Spec, proof: Proof, run: Run, hints: Hints) -> Spec:
    """Return the spec with what rows have to do with each other now: whole numbers of one scale make them depend."""
    if not spec.row_independent:
        return spec
    samples = [{tensor.name: group[tensor.name] for tensor in spec.inputs} for group in proof.groups]
    trial = Trial(spec.inputs, run, replace(hints, sizes={}, max_sizes={}, tolerance=spec.tolerance), samples)
    base = trial.samples[0][1]
    unpadded = replace(spec, row_independent=False, padded=())
    try:
        independent, _ = find_rows(trial, base, {}, min(64, spec.max_sizes.get(BATCH, 64)))
        if not independent:
            return unpadded
        made, _ = find_padded(trial, base, replace(spec, padded=()))
    except Failed:
        return unpadded
    return made


def _vectors(pairs: Sequence[tuple[Any, Any]], *, by_rows: bool) -> Sequence[tuple[Any, Any]]:
    """Return answers and references as their cosines are taken: of single numbers, all groups' about their mean.

    About zero, an answer that is the same for every row would be near any reference that is far from it.
    """
    if not by_rows or any(known.size > len(known) for _, known in pairs):
        return pairs
    own, known = (
        np.concatenate([each.ravel() for each in side]).astype(np.float64) for side in zip(*pairs, strict=True)
    )
    finite = known[np.isfinite(known)]
    # Where they differ by no more than float32 does, the mean would leave rounding alone.
    differ = bool(finite.size) and np.ptp(finite) > np.finfo(np.float32).eps * np.abs(finite).max()
    mean = finite.mean() if differ else 0.0
    return [(own - mean, known - mean)]


def _least_cosine(own: Any, known: Any, *, by_rows: bool) -> float:
    """Return the least cosine of a row's answer and its reference, or of all of it; 0 where one alone is finite.

    Single numbers are a vector together.
    """
    rows = len(known) if by_rows and known.size > len(known) else 1
    one, other = (np.reshape(each, (rows, -1)).astype(np.float64) for each in (own, known))
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return 0.0
    one, other = np.where(finite, one, 0.0), np.where(finite, other, 0.0)
    lengths = np.sqrt((one * one).sum(-1) * (other * other).sum(-1))
    cosines = np.where(lengths > 0, (one * other).sum(-1) / np.where(lengths > 0, lengths, 1.0), (one == other).all(-1))
    return float(cosines.min(initial=1.0))


def _flips(pairs: Sequence[tuple[Any, Any]]) -> float:
    """Return the share of vectors, along the last axis, whose largest element is another one."""
    moved = [(own.argmax(-1) != known.argmax(-1)).ravel() for own, known in pairs if known.size and known.ndim]
    return float(np.concatenate(moved).mean()) if moved else 0.0


def _accuracy(file: Path, text: Path, spec: Spec, runs: Runs) -> tuple[float, float]:
    """Return the share of labelled texts whose label has the highest score, by each of the runs."""
    form, tokenizer = read_text_form(text), Tokenizer.from_file(str(text / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    labels = list(form.labels)
    right = [0, 0]
    lines = _labelled(file, labels)
    for label, sentence in lines:
        ids = tokenizer.encode(sentence)
        if not 0 < len(ids) <= form.max_tokens:
            raise Refused(f"{file}: {sentence[:40]!r} has {len(ids)} tokens, the model takes 1 to {form.max_tokens}")
        own = {IDS: ids.ids, MASK: ids.attention_mask, TYPES: ids.type_ids}
        asked = {
            tensor.name: np.array([own[tensor.name]], dtype=np.int64 if tensor.dtype == "INT64" else np.int32)
            for tensor in spec.inputs
        }
        for place, run in enumerate(runs):
            right[place] += labels[int(run(asked)[form.scores][0].argmax())] == label
    return right[0] / len(lines), right[1] / len(lines)


def _labelled(file: Path, labels: Sequence[str]) -> list[tuple[str, str]]:
    """Read lines of LABEL, tab, TEXT. Raises Refused."""
    try:
        lines = [line.split("\t", 1) for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise Refused(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if len(line) < 2 or line[0] not in labels:  # noqa: PLR2004 - a label and a text
            raise Refused(f"{file}, line {number}: expected one of {', '.join(labels)}, a tab and a text")
    if not lines:
        raise Refused(f"{file} has no lines")
    return [(label, sentence) for label, sentence in lines]
