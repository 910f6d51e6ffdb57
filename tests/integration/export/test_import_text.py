"""A classifier of texts from a Hugging Face folder: its labels and tokenizer, and the same network in Keras."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from export.errors import ExportError
from export.importing import distilbert_keras, hugging_face, hugging_face_text, torch_module, torch_source
from export.importing.__main__ import main
from export.importing.axes import Declared
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import prove
from export.stablehlo import exporter
from servepath.artifacts.manifest import read_manifest, verify
from servepath.artifacts.reference import load_groups
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.artifacts.text import TextForm, read_text_form
from servepath.protocols.deployments_file import read_deployments
from tests import stablehlo

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.filterwarnings("ignore")

LABELS = {0: "leave", 1: "pay", 2: "travel"}
PAD = "[PAD]"
WORDS = {"[CLS]": 0, PAD: 1, "[UNK]": 2, "pay": 3, "leave": 4}
IDS = np.array([[0, 3, 4, 7, 1], [0, 4, 1, 1, 1]])
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
SPEC = Spec(
    inputs=tuple(TensorSpec(name, "INT64", ("batch", "length")) for name in ("input_ids", "attention_mask")),
    outputs=tuple(TensorSpec(name, "FP32", ("batch", 3)) for name in ("logits", "probabilities")),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as transformers writes it, of a tiny DistilBERT with weights that matter."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(3)
    config = transformers.DistilBertConfig(
        vocab_size=20, dim=8, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=16, id2label=LABELS
    )
    model = transformers.DistilBertForSequenceClassification(config)
    for parameter in model.parameters():  # as new, biases are zeros and norms ones, which a mistake would not move
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    model.save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token=next(w for w in WORDS if "UNK" in w)))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        model_max_length=12,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "copied"))


def edit(file: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))

    return change


def test_every_stack_gets_the_network_and_callers_may_send_texts(classifier: Path, tmp_path: Path) -> None:
    exports, deployments = tmp_path / "exports", tmp_path / "d.toml"
    words = [str(classifier), "--name", "m", "--out", str(exports), "--deployments", str(deployments)]
    assert main(words) == 0
    (deployed,) = read_deployments(deployments).models
    assert set(deployed.stacks) == {"torchserve", "tfserving", "litert", "onnx"}
    form = read_text_form(exports / "m" / "text" / "1")
    assert form == TextForm(("leave", "pay", "travel"), "probabilities", 12)
    manifests = {kind: verify(exports / "m" / kind / "1") for kind in ("mar", "onnx", "saved_model", "tflite", "text")}
    assert len({json.dumps(each.spec.to_dict()) for each in manifests.values()}) == 1
    assert [tensor.name for tensor in manifests["mar"].spec.outputs] == ["logits", "probabilities"]


@pytest.fixture(scope="module")
def on_tpus(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the network as StableHLO, imported."""
    exports = tmp_path_factory.mktemp("exports")
    assert main([str(classifier), "--name", "m", "--out", str(exports), "--no-deploy", "--stablehlo"]) == 0
    return exports / "m" / "stablehlo" / "1"


@pytest.mark.slow
def test_a_network_is_written_for_tpus_where_that_is_asked_for(classifier: Path, on_tpus: Path) -> None:
    manifest = verify(on_tpus)
    assert manifest.tools.keys() >= {"torchax", "jax", "jaxlib", "stablehlo", "jax_calling_convention"}
    predict = exporter.load(on_tpus)
    found = predict({"input_ids": IDS, "attention_mask": MASK})
    model = transformers.DistilBertForSequenceClassification.from_pretrained(classifier).double().eval()
    with torch.inference_mode():
        wanted = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).logits
    np.testing.assert_allclose(found["logits"], wanted.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match="refining shapes"):  # 16 positions
        predict({"input_ids": np.ones((1, 17), np.int64), "attention_mask": np.ones((1, 17), np.int64)})


@pytest.mark.slow
def test_a_network_for_tpus_is_the_same_bytes_from_another_process(
    classifier: Path, on_tpus: Path, tmp_path: Path
) -> None:
    folders = (on_tpus, stablehlo.again(classifier, on_tpus, tmp_path))
    one, other = ((folder / stablehlo.FILE).read_bytes() for folder in folders)
    assert one == other


@pytest.mark.slow
def test_a_network_for_tpus_multiplies_in_float32_and_alike_on_every_platform(on_tpus: Path) -> None:
    (text,) = stablehlo.texts(on_tpus)
    branches = stablehlo.branches(text)
    assert len(branches) == 18  # six of weights and two of attention in each of two layers, and two at the end
    assert all(cpu == tpu and len(cpu) == 1 for cpu, tpu in branches)
    assert len(stablehlo.products(text)) == 2 * len(branches)
    assert stablehlo.inexact(text) == []
    assert stablehlo.wide(text) == ["stablehlo.constant tensor<f64>", "stablehlo.convert (tensor<f64>) -> tensor<f32>"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier.bias", "distilbert.transformer.layer.0.attention.q_lin.weight"])
def test_a_network_for_tpus_with_another_weight_is_not_within_the_tolerance(
    copied: Path, on_tpus: Path, tmp_path: Path, name: str
) -> None:
    shift(name, 0.01)(copied)
    spec = read_manifest(on_tpus).spec
    (logits,) = (tensor for tensor in spec.outputs if tensor.name == "logits")
    group = load_groups(on_tpus.parents[1] / "reference" / "1", spec)[0]
    asked = {tensor.name: group[tensor.name] for tensor in spec.inputs}
    within = [
        spec.tolerance_of(logits).holds(exporter.load(folder)(asked)["logits"].astype(np.float64), group["logits"])
        for folder in (on_tpus, stablehlo.again(copied, on_tpus, tmp_path))
    ]
    assert within == [True, False]


def test_what_pytorch_does_not_read_is_not_written_for_tpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"an ONNX file, by what it is not")
    assert main([str(source), "--name", "m", "--out", str(tmp_path / "exports"), "--no-deploy", "--stablehlo"]) == 1
    said = "servepath import: --stablehlo is for what PyTorch reads: its files and Hugging Face folders\n"
    assert capsys.readouterr().err == said


def test_the_network_in_keras_answers_as_transformers(classifier: Path, tmp_path: Path) -> None:
    from export.saved_model import load  # noqa: PLC0415 - TensorFlow, which the other tests need not wait for

    distilbert_keras.export(classifier, tmp_path / "saved", Hints(), SPEC)
    found = load(tmp_path / "saved")({"input_ids": IDS, "attention_mask": MASK})
    model = transformers.DistilBertForSequenceClassification.from_pretrained(classifier).double().eval()
    with torch.inference_mode():
        wanted = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).logits
    np.testing.assert_allclose(found["logits"], wanted.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["probabilities"], wanted.softmax(-1).numpy(), rtol=1e-4, atol=1e-5)


def test_the_network_in_keras_takes_bfloat16_and_a_config_in_other_words(copied: Path, tmp_path: Path) -> None:
    from export.saved_model import load  # noqa: PLC0415

    model = transformers.DistilBertForSequenceClassification.from_pretrained(copied).bfloat16()
    model.save_pretrained(copied)
    config = json.loads((copied / "config.json").read_text())
    other = {"hidden_size": config.pop("dim"), "num_attention_heads": config.pop("n_heads")}
    for name in ("activation", "id2label", "label2id"):
        del config[name]
    (copied / "config.json").write_text(json.dumps(config | other))
    distilbert_keras.export(copied, tmp_path / "saved", Hints(), SPEC)
    found = load(tmp_path / "saved")({"input_ids": IDS, "attention_mask": MASK})
    with torch.inference_mode():
        wanted = model.double()(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).logits
    np.testing.assert_allclose(found["logits"], wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_the_network_in_keras_has_the_public_names(classifier: Path, tmp_path: Path) -> None:
    from export.saved_model import load  # noqa: PLC0415

    names = {"input_ids": "ids", "probabilities": "scores"}
    tensors = [tuple(replace(t, name=names.get(t.name, t.name)) for t in each) for each in (SPEC.inputs, SPEC.outputs)]
    spec = replace(SPEC, inputs=tensors[0], outputs=tensors[1])
    distilbert_keras.export(classifier, tmp_path / "saved", Hints(names=names), spec)
    assert set(load(tmp_path / "saved")({"ids": IDS, "attention_mask": MASK})) == {"logits", "scores"}


def lose(name: str) -> Change:
    def change(folder: Path) -> None:
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        del weights[name]
        safetensors.numpy.save_file(weights, folder / "model.safetensors")

    return change


def shift(name: str, by: float) -> Change:
    """Return what changes one number of a weight."""

    def change(folder: Path) -> None:
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        weights[name] = weights[name].copy()
        weights[name].flat[0] += by
        safetensors.numpy.save_file(weights, folder / "model.safetensors")

    return change


def add(name: str) -> Change:
    def change(folder: Path) -> None:
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        safetensors.numpy.save_file({**weights, name: np.ones(2, np.float32)}, folder / "model.safetensors")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit("config.json", architectures=["BertForSequenceClassification"]), "no network in Keras for BertForSeq"),
        (edit("config.json", activation="relu"), "has the activation 'gelu', the folder's config 'relu'"),
        (lose("classifier.bias"), r"are not those of DistilBertForSequenceClassification: 'classifier\.bias'"),
        (add("more.weight"), r"has weights that DistilBertForSequenceClassification lacks, such as more\.weight"),
    ],
)
def test_another_network_is_not_written_as_this_one(copied: Path, tmp_path: Path, change: Change, said: str) -> None:
    change(copied)
    with pytest.raises(Refused, match=said):
        distilbert_keras.export(copied, tmp_path / "saved", Hints(), SPEC)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "the folder's tokenizer or its labels cannot be used"),
        (edit("config.json", id2label={"0": "\ud800", "1": "b", "2": "c"}), "cannot be used ('utf-8' codec"),
        (edit("config.json", problem_type="multi_label_classification"), ""),
    ],
)
def test_a_network_whose_texts_cannot_be_translated_is_served_by_ids(
    copied: Path, tmp_path: Path, change: Change, note: str
) -> None:
    change(copied)
    found = hugging_face.export(copied, tmp_path / "m.pt2", Hints())
    assert found.text is None
    assert note in found.note
    assert bool(note) == bool(found.note)


@pytest.mark.parametrize(
    ("file", "said"), [("[]", 16), ('{"model_max_length": 1e30}', 16), ('{"model_max_length": 9}', 9)]
)
def test_the_most_tokens_are_what_network_and_tokenizer_both_take(copied: Path, file: str, said: int) -> None:
    (copied / "tokenizer_config.json").write_text(file)
    config = transformers.AutoConfig.from_pretrained(copied)
    form, _ = hugging_face_text.find(copied, transformers.DistilBertForSequenceClassification, config)
    assert form is not None
    assert form.max_tokens == said


def test_the_text_form_is_of_what_was_proven() -> None:
    form, proven = TextForm(("a", "b", "c"), "probabilities", 12), replace(SPEC, padded=("length",))
    bounded = replace(proven, max_sizes={"length": 7})
    assert hugging_face_text.fitted(form, bounded, Hints()) == (replace(form, max_tokens=7), "")
    renamed = Hints(names={"probabilities": "scores"})
    assert hugging_face_text.fitted(form, proven, renamed) == (replace(form, scores="scores"), "")
    assert "nothing proves that shorter ones may be filled up" in hugging_face_text.fitted(form, SPEC, Hints())[1]
    ids = replace(SPEC, inputs=(replace(SPEC.inputs[0], name="ids"), SPEC.inputs[1]))
    assert "the network takes ids, attention_mask" in hugging_face_text.fitted(form, ids, Hints())[1]


def test_labels_are_those_of_the_config_by_number(classifier: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(classifier)
    kind = transformers.DistilBertForSequenceClassification
    assert hugging_face_text.labels_of(kind, config) == ["leave", "pay", "travel"]
    assert hugging_face_text.labels_of(transformers.DistilBertModel, config) == []


def test_another_tokenizer_is_another_version(classifier: Path, tmp_path: Path) -> None:
    found = hugging_face.export(classifier, tmp_path / "m.pt2", Hints())
    assert "tokenizer.json" in {file.name for file in found.files}


class Texts(torch.nn.Module):  # type: ignore[misc]
    """One number a text [batch, 1] of ids and a mask [batch, length]: a mean under the mask, or of all places."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 4)
        self.last = torch.nn.Linear(4, 1)
        self.masked = masked

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        words, there = self.embedding(ids), mask.unsqueeze(-1).float()
        sums = (words * there).sum(1)
        return self.last(sums / there.sum(1) if self.masked else sums / ids.shape[1])


@pytest.mark.parametrize(("masked", "padded"), [(True, ("length",)), (False, ())])
def test_texts_are_filled_up_where_zeros_under_the_mask_change_nothing(
    tmp_path: Path, *, masked: bool, padded: tuple[str, ...]
) -> None:
    ids = Declared("ids", "INT64", ("batch", "length"))
    inputs = [ids, ids._replace(name="mask")]
    hints = Hints(ranges={"ids": (0, 19)}, sizes={"length": (6, 3, 9)}, max_sizes={"length": 12})
    torch.manual_seed(1)
    torch_module.export(Texts(masked=masked), inputs, hints, tmp_path / "m.pt2")
    (tmp_path / "made").mkdir()
    proof, _ = torch_source.import_program(tmp_path / "m.pt2", tmp_path / "made", hints, (), inputs)
    assert proof.spec.row_independent
    assert proof.spec.padded == padded
    assert Spec.from_dict(proof.spec.to_dict()) == proof.spec
    said = "zeros along 'length' change answers: requests of several sizes are never batched"
    assert (said in proof.notes) == (not masked)


def test_a_model_that_takes_some_lengths_alone_is_served_and_its_lengths_are_never_joined() -> None:
    def run(asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids, mask = asked["ids"], asked["mask"]
        if ids.shape[1] % 3:
            raise ValueError("lengths are multiples of 3")
        return {"y": (ids * mask).sum(1, keepdims=True).astype(np.float32)}

    ids = Declared("ids", "INT64", ("batch", "length"))
    hints = Hints(ranges={"ids": (0, 19)}, sizes={"length": (6, 3, 9)})
    proof = prove([ids, ids._replace(name="mask")], run, hints, weights=())
    assert (proof.spec.row_independent, proof.spec.padded) == (True, ())
    said = "rows could not be filled up (lengths are multiples of 3): requests of several sizes are never batched"
    assert said in proof.notes


def test_a_spec_pads_second_axes_of_inputs_alone() -> None:
    raw = SPEC.to_dict()
    assert "padded" not in raw
    assert Spec.from_dict({**raw, "padded": ["length"]}).padded_inputs == {"input_ids", "attention_mask"}
    out = TensorSpec("states", "FP32", ("batch", "length", 2))
    for wrong in ({"padded": ["batch"]}, {"padded": ["height"]}, {"padded": ["length"], "row_independent": False}):
        with pytest.raises(ValueError, match="which is no second axis of inputs alone, of independent rows"):
            Spec.from_dict({**raw, **wrong})
    with pytest.raises(ValueError, match="padded has 'length'"):
        Spec.from_dict(replace(SPEC, outputs=(*SPEC.outputs, out)).to_dict() | {"padded": ["length"]})
