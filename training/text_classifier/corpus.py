"""A corpus: a folder of LABEL.txt files, one text per line, split into what is learned, watched and tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.run import Unusable

# Of each label's texts, for the end of training to be chosen by, and for the figures that are published.
VALIDATION, TEST = 0.1, 0.1
# The split is the corpus', whatever the seed of a training: two trainings are tested on the same texts.
SPLIT_SEED = 0
MIN_TEXTS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """Texts, and of each the number of its label."""

    texts: Sequence[str]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Label names, sorted, and three parts without a text in common."""

    labels: Sequence[str]
    train: Part
    validation: Part
    test: Part


def read(folder: Path) -> Corpus:
    """Read FOLDER/LABEL.txt, UTF-8. Raises Unusable."""
    texts = {path.stem: _texts(path) for path in sorted(folder.glob("*.txt"))}
    if len(texts) < 2:  # noqa: PLR2004 - one label is no choice
        raise Unusable(f"{folder} has {len(texts)} files LABEL.txt, a classifier needs two at least")
    _check_distinct(texts)
    parts: tuple[list[tuple[str, int]], ...] = ([], [], [])
    for number, own in enumerate(texts.values()):
        for part, chosen in zip(parts, _split(own), strict=True):
            part += [(text, number) for text in chosen]
    return Corpus(tuple(texts), *(Part(*map(tuple, zip(*part, strict=True))) for part in parts))


def _texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    if empty := next((number for number, line in enumerate(lines, start=1) if not line.strip()), 0):
        raise Unusable(f"{path}:{empty} is empty; a line is a text")
    if len(lines) < MIN_TEXTS:
        raise Unusable(f"{path} has {len(lines)} texts, a label needs {MIN_TEXTS} at least")
    return lines


def _check_distinct(texts: Mapping[str, Sequence[str]]) -> None:
    """Raise Unusable for a text that is there twice: it could be learned and tested, or have two labels."""
    seen: dict[str, str] = {}
    for label, own in texts.items():
        for text in own:
            if (key := text.casefold()) in seen:
                raise Unusable(f"the text {text!r} is there twice, in {seen[key]} and {label}; leave one")
            seen[key] = label


def _split(texts: Sequence[str]) -> tuple[list[str], ...]:
    """Return what is learned, watched and tested of a label's texts."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    ends = [round(len(texts) * share) for share in (1 - VALIDATION - TEST, 1 - TEST)]
    return tuple([texts[number] for number in part] for part in np.split(order, ends))
