from pathlib import Path

import pytest

from models.registry import FOLDER
from training.run import Unusable
from training.text_classifier.corpus import read

OURS = FOLDER / "policy_classifier" / "corpus"


def write(folder: Path, **labels: list[str]) -> Path:
    for label, texts in labels.items():
        (folder / f"{label}.txt").write_text("".join(f"{text}\n" for text in texts))
    return folder


def texts(label: str, count: int) -> list[str]:
    return [f"{label} {number}" for number in range(count)]


def test_our_corpus_has_what_is_said_of_it() -> None:
    corpus = read(OURS)
    assert len(corpus.labels) == 12
    assert [len(part.texts) for part in (corpus.train, corpus.validation, corpus.test)] == [1920, 240, 240]
    assert all(
        part.labels.count(label) == len(part.labels) / 12 for part in (corpus.train, corpus.test) for label in range(12)
    )


def test_parts_share_no_text_and_stay_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path, b=texts("b", 20), a=texts("a", 10))
    corpus = read(folder)
    parts = [corpus.train, corpus.validation, corpus.test]
    assert corpus.labels == ("a", "b")
    assert sorted(text for part in parts for text in part.texts) == sorted(texts("a", 10) + texts("b", 20))
    assert [len(part.texts) for part in parts] == [24, 3, 3]
    assert all(
        corpus.labels[label] == text[0] for part in parts for text, label in zip(part.texts, part.labels, strict=True)
    )
    assert read(folder) == corpus


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "has 0 files LABEL.txt, a classifier needs two at least"),
        ({"a": texts("a", 10)}, "has 1 files LABEL.txt"),
        ({"a": texts("a", 10), "b": texts("b", 9)}, r"b\.txt has 9 texts, a label needs 10 at least"),
        ({"a": texts("a", 10), "b": [*texts("b", 10), " "]}, r"b\.txt:11 is empty"),
        ({"a": texts("x", 10), "b": ["X 3", *texts("b", 10)]}, "the text 'X 3' is there twice, in a and b"),
        ({"a": [*texts("a", 10), "a 3"], "b": texts("b", 10)}, "the text 'a 3' is there twice, in a and a"),
    ],
)
def test_a_corpus_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, labels: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(Unusable, match=said):
        read(write(tmp_path, **labels))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    write(tmp_path, a=texts("a", 10))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(Unusable, match=r"b\.txt cannot be read"):
        read(tmp_path)
