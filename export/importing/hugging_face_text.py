"""The text form of a Hugging Face folder, where its network scores labels one of which is right."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from servepath.artifacts.text import IDS, MASK, TOKENIZER, TYPES, TextForm

SCORES = "probabilities"
# Where neither the network nor its tokenizer has a limit.
MAX_TOKENS = 512


def labels_of(kind: Any, config: Any) -> list[str]:
    """Return the labels by number of a network that scores one of several, none of any other."""
    one_of = getattr(config, "problem_type", None) in {None, "single_label_classification"}
    if not kind.__name__.endswith("ForSequenceClassification") or not one_of or config.num_labels < 2:  # noqa: PLR2004 - one number is no choice
        return []
    return [config.id2label[number] for number in range(config.num_labels)]


def find(folder: Path, kind: Any, config: Any, inputs: list[str]) -> tuple[TextForm | None, str]:
    """Return the text form, or none and the sentence why callers cannot send texts; both empty for other networks."""
    labels = labels_of(kind, config)
    if not labels:
        return None, ""
    why = "callers cannot send texts, only ids: "
    if not {IDS, MASK} <= set(inputs) <= {IDS, MASK, TYPES}:
        return None, f"{why}the network takes {', '.join(inputs)}, and texts of several lengths need {IDS} and {MASK}"
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        said = json.loads((folder / "tokenizer_config.json").read_text())
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself
        return None, f"{why}the folder's tokenizer cannot be read ({error})"
    if tokenizer.get_vocab_size() > config.vocab_size:
        return None, f"{why}its tokenizer has {tokenizer.get_vocab_size()} tokens, the network {config.vocab_size}"
    limits = [getattr(config, "max_position_embeddings", None), said.get("model_max_length")]
    most = min((int(each) for each in limits if each), default=0)
    # Under the mask any id will do.
    return TextForm(tuple(labels), SCORES, most or MAX_TOKENS, getattr(config, "pad_token_id", None) or 0), ""
