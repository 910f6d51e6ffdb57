"""The text form of a Hugging Face folder, where its network scores labels one of which is right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from export.importing.hints import Hints
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import IDS, MASK, MAX_TOKENS, TOKENIZER, TYPES, TextForm

SCORES = "probabilities"
# Where neither the network nor its tokenizer has a limit.
USUAL_TOKENS = 512
# Words, and what no tokenizer has learned as one.
TRIED = "May I work from home, q7\u00e9\u4e00zx?"
WHY = "callers cannot send texts, only ids: "


def labels_of(kind: Any, config: Any) -> list[str]:
    """Return the labels by number of a network that scores one of several, none of any other."""
    one_of = getattr(config, "problem_type", None) in {None, "single_label_classification"}
    if not kind.__name__.endswith("ForSequenceClassification") or not one_of or config.num_labels < 2:  # noqa: PLR2004 - one number is no choice
        return []
    return [str(config.id2label.get(number, f"LABEL_{number}")) for number in range(config.num_labels)]


def find(folder: Path, kind: Any, config: Any) -> tuple[TextForm | None, str]:
    """Return the text form, or none and why callers cannot send texts; both empty for other networks."""
    labels = labels_of(kind, config)
    if not labels:
        return None, ""
    limits = [getattr(config, "max_position_embeddings", None), _said(folder).get("model_max_length")]
    known = [each for each in limits if type(each) is int and 1 <= each <= MAX_TOKENS]
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        # As the gateway has it: what the file says of these would cut texts, or fill them up.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode(TRIED)
        form = TextForm(tuple(labels), SCORES, min(known, default=USUAL_TOKENS))
        form.from_dict(json.loads(form.to_json()))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself
        return None, f"{WHY}the folder's tokenizer or its labels cannot be used ({error})"
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= config.vocab_size:
        return None, f"{WHY}its tokenizer gives ids up to {largest}, the network has {config.vocab_size}"
    return form, ""


def fitted(form: TextForm, spec: Spec, hints: Hints) -> tuple[TextForm | None, str]:
    """Return the form as it fits what has been proven of the network, or none and why callers cannot send texts."""
    inputs = {tensor.name: tensor for tensor in spec.inputs}
    if not {IDS, MASK} <= inputs.keys() <= {IDS, MASK, TYPES}:
        return None, f"{WHY}the network takes {', '.join(inputs)}, and texts of several lengths need {IDS} and {MASK}"
    axis = inputs[IDS].shape[1]
    if spec.padded != (axis,):
        return None, f"{WHY}nothing proves that shorter ones may be filled up"
    most = min(form.max_tokens, spec.max_sizes.get(str(axis), form.max_tokens))
    return replace(form, scores=hints.names.get(form.scores, form.scores), max_tokens=most), ""


def _said(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text())
    except (OSError, ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}
