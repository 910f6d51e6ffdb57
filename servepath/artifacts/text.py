"""The text form of a model: how the texts of a request become the ids that the model takes, and scores its labels.

A format beside the others, EXPORTS/MODEL/text/VERSION/{tokenizer.json, text.json}: every stack serves the network, and
who speaks to callers translates. tokenizer.json is that of Hugging Face's library tokenizers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from servepath.artifacts.manifest import ArtifactError

FORMAT = "text"
TOKENIZER, FORM = "tokenizer.json", "text.json"
# What callers send instead of ids, BYTES [texts], and get beside the scores, BYTES [texts].
TEXT, LABEL = "text", "label"
# No network takes more of a text.
MAX_TOKENS = 2**20
# What a tokenizer gives, as the inputs of text models are called.
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


@dataclass(frozen=True, slots=True)
class TextForm:
    """What text.json holds.

    labels: by number. scores: the output whose last axis has one score a label. max_tokens: of a text, special ones
    included. The shorter texts of a request are filled up with zeros, ids and mask alike.
    """

    labels: Sequence[str]
    scores: str
    max_tokens: int

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the form that `to_json` gives. Raises KeyError, TypeError or ValueError."""
        labels = tuple(str(label) for label in raw["labels"])
        for label in labels:
            label.encode()  # raises UnicodeEncodeError, a ValueError
        if not 1 <= (most := int(raw["max_tokens"])) <= MAX_TOKENS:
            raise ValueError(f"max_tokens is {most}, not from 1 to {MAX_TOKENS}")
        return cls(labels, str(raw["scores"]), most)

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_text_form(folder: Path) -> TextForm:
    """Read FOLDER/text.json. Raises ArtifactError."""
    path = folder / FORM
    try:
        return TextForm.from_dict(json.loads(path.read_text()))
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{path} cannot be read ({why}); import the model again") from error
