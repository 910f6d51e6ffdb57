"""DistilBERT's classifier of texts in Keras 3, with the weights of a Hugging Face folder: what TensorFlow serves of it.

The network is that of https://arxiv.org/abs/1910.01108 as transformers computes it: learned positions, GELU by the
error function, layer norms behind the residuals, a ReLU layer and a linear one on the first token.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import DistilBertConfig

from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.hugging_face_text import SCORES
from export.keras_model import KERAS_DTYPES, tensorflow
from export.saved_model import SIGNATURE
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import IDS, MASK

import keras  # isort: skip - after TensorFlow

ARCHITECTURE = "DistilBertForSequenceClassification"
EPSILON = 1e-12
LOGITS = "logits"


class Attention(keras.layers.Layer):  # type: ignore[misc]
    """Attention of several heads within each text, then the residual and its norm."""

    def __init__(self, width: int, heads: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.attention = keras.layers.MultiHeadAttention(heads, width // heads, name="attention")
        self.norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")

    def call(self, states: Any, mask: Any) -> Any:
        """Return states [texts, tokens, width]; mask [texts, 1, tokens] is false where a token is none."""
        return self.norm(states + self.attention(states, states, attention_mask=mask))


class Classifier(keras.Model):  # type: ignore[misc]
    """Ids and mask [texts, tokens] to logits and probabilities [texts, labels]."""

    def __init__(self, config: Mapping[str, Any], labels: int) -> None:
        super().__init__(name="distilbert")
        width, layers = config["dim"], keras.layers
        self.words = layers.Embedding(config["vocab_size"], width, name="words")
        self.positions = layers.Embedding(config["max_position_embeddings"], width, name="positions")
        self.norm = layers.LayerNormalization(epsilon=EPSILON, name="norm")
        self.blocks = [
            (
                Attention(width, config["n_heads"], name=f"attention_{number}"),
                layers.Dense(config["hidden_dim"], activation=_gelu, name=f"wide_{number}"),
                layers.Dense(width, name=f"narrow_{number}"),
                layers.LayerNormalization(epsilon=EPSILON, name=f"norm_{number}"),
            )
            for number in range(config["n_layers"])
        ]
        self.hidden = layers.Dense(width, activation="relu", name="hidden")
        self.last = layers.Dense(labels, name="last")

    def call(self, ids: Any, mask: Any) -> dict[str, Any]:
        """Return both outputs by name."""
        attended = keras.ops.cast(keras.ops.expand_dims(mask, 1), "bool")
        states = self.norm(self.words(ids) + self.positions(keras.ops.arange(keras.ops.shape(ids)[1]))[None])
        for attention, wide, narrow, norm in self.blocks:
            states = attention(states, attended)
            states = norm(states + narrow(wide(states)))
        logits = self.last(self.hidden(states[:, 0]))
        return {LOGITS: logits, SCORES: keras.ops.softmax(logits)}


def export(folder: Path, target: Path, hints: Hints, spec: Spec) -> Mapping[str, str]:
    """Write the SavedModel under the spec's names; return facts for the manifest. Raises Refused."""
    config = DistilBertConfig.from_dict(json.loads((folder / "config.json").read_text())).to_dict()
    _check(config, spec, hints)
    model = Classifier(config, int(spec.outputs[0].shape[1]))
    model(*(np.ones((1, 2), np.int64) for _ in range(2)))  # makes its variables
    names = {name: hints.names.get(name, name) for name in (IDS, MASK, LOGITS, SCORES)}
    _carry_over(model, _weights(folder))

    def serve(**rows: Any) -> Any:
        return {names[name]: tensor for name, tensor in model(rows[names[IDS]], rows[names[MASK]]).items()}

    endpoint = tensorflow.function(serve)
    endpoint.get_concrete_function(
        **{t.name: tensorflow.TensorSpec((None, None), KERAS_DTYPES[t.dtype], t.name) for t in spec.inputs}
    )
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SIGNATURE, endpoint)
    archive.write_out(str(target), verbose=False)
    return {"network": f"{ARCHITECTURE} in keras {keras.__version__}"}


def _gelu(values: Any) -> Any:
    return keras.activations.gelu(values, approximate=False)


def _check(config: Mapping[str, Any], spec: Spec, hints: Hints) -> None:
    """Raise Refused for what is another network than the one above."""
    named = (config.get("architectures") or ["none"])[0]
    if named != ARCHITECTURE:
        raise Refused(f"there is no network in Keras for {named}; {ARCHITECTURE} has one")
    if (activation := config.get("activation", "gelu")) != "gelu":
        raise Refused(f"the network in Keras has the activation 'gelu', the folder's config {activation!r}")
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs))
    wanted = [[hints.names.get(name, name) for name in names] for names in ((IDS, MASK), (LOGITS, SCORES))]
    if [inputs, outputs] != wanted:
        raise Refused(f"the network in Keras goes from {wanted[0]} to {wanted[1]}, this one from {inputs} to {outputs}")


def _weights(folder: Path) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:  # numpy has no bfloat16
            found |= {name: opened.get_tensor(name).float().numpy() for name in opened.keys()}  # noqa: SIM118 - no mapping
    return found


def _carry_over(model: Classifier, weights: dict[str, NDArray[Any]]) -> None:
    """Set every variable of the model. Raises Refused where one is missing or left over."""
    try:
        for layer, values in _values(model, weights):
            layer.set_weights(values)
    except (KeyError, ValueError) as error:
        raise Refused(f"the folder's weights are not those of {ARCHITECTURE}: {error}") from error
    if weights:
        raise Refused(f"the folder has weights that {ARCHITECTURE} lacks, such as {min(weights)}")


def _values(model: Classifier, weights: dict[str, NDArray[Any]]) -> Iterator[tuple[Any, list[NDArray[Any]]]]:
    """Yield each layer and its values in Keras' order and form, taken out of the weights."""

    def linear(name: str) -> list[NDArray[Any]]:
        return [weights.pop(f"{name}.weight").T, weights.pop(f"{name}.bias")]

    def norm(name: str) -> list[NDArray[Any]]:
        return [weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias")]

    body = "distilbert.embeddings"
    yield model.words, [weights.pop(f"{body}.word_embeddings.weight")]
    yield model.positions, [weights.pop(f"{body}.position_embeddings.weight")]
    yield model.norm, norm(f"{body}.LayerNorm")
    for number, (attention, wide, narrow, after) in enumerate(model.blocks):
        body = f"distilbert.transformer.layer.{number}"
        heads = attention.attention
        parts = [linear(f"{body}.attention.{part}_lin") for part in ("q", "k", "v")]
        inner = [
            values.reshape(*values.shape[:-1], heads.num_heads, heads.key_dim) for part in parts for values in part
        ]
        kernel, bias = linear(f"{body}.attention.out_lin")
        yield heads, [*inner, kernel.reshape(heads.num_heads, heads.key_dim, -1), bias]
        yield attention.norm, norm(f"{body}.sa_layer_norm")
        yield wide, linear(f"{body}.ffn.lin1")
        yield narrow, linear(f"{body}.ffn.lin2")
        yield after, norm(f"{body}.output_layer_norm")
    yield model.hidden, linear("pre_classifier")
    yield model.last, linear("classifier")
