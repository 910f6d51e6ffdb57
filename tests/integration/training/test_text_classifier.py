"""`python -m training.text_classifier`: what it writes, that it repeats itself, what it begins from and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from training.text_classifier.__main__ import WRITTEN, _replaced, main

SUBJECTS = {"leave": ("holiday", "vacation"), "pay": ("salary", "bonus")}
VERBS = ("take", "ask for", "lose", "move", "get", "give up")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for label, nouns in SUBJECTS.items():
        lines = [
            f"May I {verb} my {noun} {place}?" for verb in VERBS for noun in nouns for place in ("now", "here", "later")
        ]
        (folder / f"{label}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "classifier"
    assert main([str(corpus), "--out", str(out), "--epochs", "15", "--batch", "8", "--seed", "7"]) == 0
    return out


def metrics(folder: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / "metrics.json").read_text())
    return read


def test_a_folder_of_hugging_faces_with_figures_and_pictures_is_written(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == WRITTEN
    config = json.loads((trained / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert config["id2label"] == {"0": "leave", "1": "pay"}
    found = metrics(trained)
    assert found["test_accuracy"] == 1.0
    assert found["test_confusion"] == [[4, 0], [0, 4]]
    assert (found["epochs"], found["seed"], found["labels"]) == (15, 7, ["leave", "pay"])
    assert all((trained / name).read_bytes().startswith(b"\x89PNG") for name in WRITTEN if name.endswith(".png"))


def test_the_same_seed_gives_the_same_folder_in_place_of_the_old_one(
    corpus: Path, trained: Path, tmp_path: Path
) -> None:
    words = [str(corpus), "--out", str(tmp_path / "again"), "--epochs", "15", "--batch", "8", "--seed"]
    assert main([*words, "8"]) == 0
    other = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert main([*words, "7"]) == 0
    names = ("model.safetensors", "tokenizer.json", "config.json")
    assert all((tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes() for name in names)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() != other
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_pretrained_folder_is_fine_tuned(corpus: Path, trained: Path, tmp_path: Path) -> None:
    words = [str(corpus), "--out", str(tmp_path / "tuned"), "--checkpoint", str(trained), "--epochs", "1"]
    assert main(words) == 0
    assert metrics(tmp_path / "tuned")["start"] == f"fine-tuned from {trained.name}"
    before, after = (
        safetensors.numpy.load_file(folder / "model.safetensors")["distilbert.embeddings.word_embeddings.weight"]
        for folder in (trained, tmp_path / "tuned")
    )
    # 50 millionths a step: near where it began.
    assert 0 < np.abs(after - before).max() < 1e-3
    assert (tmp_path / "tuned" / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()


def test_a_checkpoint_that_lacks_a_weight_below_its_last_layers_is_refused(
    corpus: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(shutil.copytree(trained, tmp_path / "lacking")) / "model.safetensors"
    weights = safetensors.numpy.load_file(file)
    name = min(name for name in weights if name.startswith("distilbert."))
    del weights[name]
    safetensors.numpy.save_file(weights, file, metadata={"format": "pt"})
    words = [str(corpus), "--out", str(tmp_path / "out"), "--checkpoint", str(file.parent), "--epochs", "1"]
    assert main(words) == 1
    assert f"lacking lacks 1 weights of the network or has them in another shape, such as {name}" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_in_bfloat16_is_fine_tuned_in_float32(trained: Path, tmp_path: Path) -> None:
    import safetensors.torch  # noqa: PLC0415 - seconds, which the other tests need not wait for
    import torch  # noqa: PLC0415

    from training.text_classifier import network  # noqa: PLC0415

    half = Path(shutil.copytree(trained, tmp_path / "half"))
    network.pretrained(trained, ["leave", "pay"]).model.bfloat16().save_pretrained(half)
    stored = safetensors.torch.load_file(half / "model.safetensors")
    assert {values.dtype for values in stored.values()} == {torch.bfloat16}
    weights = network.pretrained(half, ["leave", "pay"]).model.state_dict()
    assert {values.dtype for values in weights.values() if values.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoint", "{empty}"], "empty has no config.json, so it is no model of Hugging Face's"),
        (["--checkpoint", "{broken}"], "transformers does not load"),
        (["--lr", "1e9"], "the loss is nan at epoch"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    places = {name: tmp_path / name for name in ("empty", "broken")}
    given = [word.format(**places) for word in words]
    assert main([str(corpus), "--out", str(tmp_path / "out"), "--epochs", "2", *given]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_stays_as_it_is(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    assert main([str(corpus), "--out", str(tmp_path)]) == 1
    assert "has mine.txt, which training does not write; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_classifier_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    out = tmp_path / "classifier"
    out.mkdir()
    (out / "config.json").write_text("old")
    with pytest.raises(FileNotFoundError), _replaced(out) as new:
        new.rmdir()  # so that it cannot be moved to where the old one was
    assert (out / "config.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
