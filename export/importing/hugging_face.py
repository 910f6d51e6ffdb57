"""A Hugging Face folder -> an exported program.

Its config names an architecture of transformers; no code in the folder runs.
"""

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from export.importing import hugging_face_text, torch_module
from export.importing.axes import Declared
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.hugging_face_text import SCORES
from export.importing.prove import first_line
from servepath.artifacts.spec import BATCH
from servepath.artifacts.text import TextForm

LENGTH = "length"
# What encoders and decoders of text take; each where `forward` has it.
TEXT = ("input_ids", "attention_mask", "token_type_ids")
# The usual length of a text, and those that are tried: a sentence, a word, a paragraph.
LENGTHS = (32, 3, 128)
FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class Exported:
    """What a folder gave.

    hints: the user's, with what the folder says. files: those that were read. text: how callers send texts, None where
    they cannot; note: why not, for a network that classifies texts.
    """

    inputs: list[Declared]
    hints: Hints
    files: list[Path]
    text: TextForm | None
    note: str


def export(folder: Path, target: Path, hints: Hints) -> Exported:
    """Write the program; return what it is. Raises Refused."""
    config = _config(folder)
    kind, model = _model(folder, config)
    inputs, said = _inputs(kind, model, folder, hints.max_sizes.get(LENGTH))
    said = replace(
        hints,
        ranges={**said.ranges, **hints.ranges},
        sizes={**said.sizes, **hints.sizes},
        max_sizes={**hints.max_sizes, **said.max_sizes},
    )
    names = [each.name for each in inputs]
    scored = bool(hugging_face_text.labels_of(kind, model.config))
    torch_module.write(_Tensors(model, names, scored=scored), inputs, said, target)
    files = sorted(file for pattern in FILES for file in folder.glob(pattern))
    return Exported(inputs, said, files, *hugging_face_text.find(folder, kind, model.config))


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{folder / 'config.json'} cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise Refused(f"{folder / 'config.json'} names no model_type, so it is no model of Hugging Face's")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        why = "its weights are a pickle, which can run code" if pickled else "it has no weights"
        raise Refused(f"{folder} has no .safetensors file: {why}; save them as safetensors")
    return config


def _model(folder: Path, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the architecture's class and the model in float32, from the folder alone."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    try:
        import transformers  # noqa: PLC0415 - a large package that nothing else needs
    except ImportError:
        raise Refused("a Hugging Face folder needs transformers: pip install -c constraints.txt '.[import]'") from None
    names = config.get("architectures")
    names = names if isinstance(names, list) and names else ["none"]
    kind = getattr(transformers, str(names[0]), None)
    if kind is None or not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise Refused(
            f"{folder / 'config.json'} names the architecture {names[0]!r}, which transformers "
            f"{transformers.__version__} does not have; code in the folder is not run"
        )
    try:
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:
        raise Refused(f"transformers does not load {folder}: {first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise Refused(
            f"{folder} lacks {len(missing)} weights of {names[0]}, such as {missing[0]}: its answers would be random"
        )
    model.config.use_cache, model.config.return_dict = False, True
    return kind, model.eval()


def _inputs(kind: Any, model: Any, folder: Path, limit: int | None) -> tuple[list[Declared], Hints]:
    """Return the inputs of a model of text or pictures, and what its config says of them. Raises Refused.

    limit: of the length of a text, as the user says.
    """
    config, takes = model.config, inspect.signature(model.forward).parameters
    if kind.main_input_name == "pixel_values":
        size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
        axes = (BATCH, channels, *([size, size] if isinstance(size, int) else size or ("height", "width")))
        return [Declared("pixel_values", "FP32", axes)], Hints()
    words = getattr(config, "vocab_size", None)
    if kind.main_input_name != "input_ids" or words is None or getattr(config, "is_encoder_decoder", False):
        raise Refused(
            f"{kind.__name__} takes {kind.main_input_name}: import reads encoders and decoders of text, and models of "
            "pictures; export it with torch.export and import the .pt2 file"
        )
    types = getattr(config, "type_vocab_size", 0)
    names = [name for name in _tokenized(folder) if name in takes and (name != TEXT[2] or types > 1)]
    ranges = {"input_ids": (0.0, words - 1.0), "token_type_ids": (0.0, max(types - 1.0, 0.0))}
    known = [each for each in (_positions(model), limit) if each is not None]
    most = min(known, default=LENGTHS[-1])
    hints = Hints(
        ranges={name: limits for name, limits in ranges.items() if name in names},
        sizes={LENGTH: tuple(length for length in LENGTHS if length <= most) or (most,)},
        max_sizes={LENGTH: most} if known else {},
    )
    return [Declared(name, "INT64", (BATCH, LENGTH)) for name in names], hints


def _positions(model: Any) -> int | None:
    """Return how many positions a model has for tokens, None where it has no such limit.

    Where one of them is the padding's, as in RoBERTa and models like it, the first token has the next one.
    """
    most = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    tables = [each for name, each in model.named_modules() if name.rpartition(".")[2] == "position_embeddings"]
    paddings = [each.padding_idx for each in tables if getattr(each, "padding_idx", None) is not None]
    return max(most - max(paddings, default=-1) - 1, 1)


def _tokenized(folder: Path) -> list[str]:
    """Return what the folder's tokenizer gives, as far as its config says; all that texts may have otherwise."""
    try:
        names = json.loads((folder / "tokenizer_config.json").read_text()).get("model_input_names")
    except (OSError, ValueError, AttributeError, RecursionError):
        names = None
    return [name for name in TEXT if name in names] if isinstance(names, list) else list(TEXT)


class _Tensors(torch_module.Positional):
    """A model of transformers as a function of tensors: results by name, without what is no tensor.

    scored: the logits are of labels, one of which is right, and their probabilities stand beside them.
    """

    def __init__(self, model: torch.nn.Module, names: Sequence[str], *, scored: bool) -> None:
        super().__init__(model, names)
        self.scored = scored

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the tensors of the model's results."""
        found = {name: value for name, value in super().forward(*tensors).items() if isinstance(value, torch.Tensor)}
        return {**found, SCORES: found["logits"].softmax(-1)} if self.scored else found
