"""The network and its tokenizer: from a pretrained folder, or new in one of two sizes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from training.run import Unusable

# The names that DistilBERT's tokenizer has for them.
SPECIAL = MappingProxyType(
    {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
)
INPUTS = ("input_ids", "attention_mask")


class Network(NamedTuple):
    """A classifier of transformers and its tokenizer."""

    model: Any
    tokenizer: Any


def small(labels: Sequence[str], texts: Sequence[str]) -> Network:
    """Return two layers of width 128 with a vocabulary of the texts to be learned; trains in a minute on a CPU."""
    tokenizer = _tokenizer(texts, vocabulary=2000, longest=128)
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        dim=128,
        n_layers=2,
        n_heads=4,
        hidden_dim=512,
        dropout=0.2,
        seq_classif_dropout=0.2,
        **_named(labels),
    )
    return Network(DistilBertForSequenceClassification(config), tokenizer)


def base(labels: Sequence[str], texts: Sequence[str]) -> Network:
    """Return DistilBERT's own size, 66 million numbers in six layers of width 768, with fresh weights."""
    tokenizer = _tokenizer(texts, vocabulary=30522, longest=512)
    config = DistilBertConfig(**_named(labels))
    return Network(DistilBertForSequenceClassification(config), tokenizer)


SIZES: Mapping[str, Callable[[Sequence[str], Sequence[str]], Network]] = MappingProxyType(
    {"small": small, "base": base}
)


def pretrained(folder: Path, labels: Sequence[str]) -> Network:
    """Return the network in a folder with a new last layer for the labels, and its tokenizer.

    Only safetensors are read, and no code in the folder runs. Raises Unusable.
    """
    if not (folder / "config.json").is_file():
        raise Unusable(f"{folder} has no config.json, so it is no model of Hugging Face's")
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,  # small steps are lost in the bfloat16 of many a checkpoint
            **safe,
            **_named(labels),
        )
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        raise Unusable(f"transformers does not load {folder}: {type(error).__name__}: {said}") from error
    if not tokenizer.is_fast or tokenizer.pad_token is None:
        raise Unusable(f"{folder} has no tokenizer.json with a padding token, which serving needs")
    if lacking := _body_lacking(model, report):
        raise Unusable(
            f"{folder} lacks {len(lacking)} weights of the network or has them in another shape, such as {lacking[0]}: "
            "they would begin at random"
        )
    return Network(model, tokenizer)


def _body_lacking(model: Any, report: Mapping[str, Any]) -> list[str]:
    """Return the weights that were not loaded, but for those of the last layers, which are new."""
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    body = f"{model.base_model_prefix}."
    return sorted(name for name in absent if name.startswith(body) and ".pooler." not in name)


def _named(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def _tokenizer(texts: Sequence[str], vocabulary: int, longest: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer in lower case, as DistilBERT's, of the most frequent pieces of the texts.

    Pieces have no mark of where in a word they stand: with one, the library's trainers (tokenizers 0.23.3) learn
    another vocabulary each time, and no training could be repeated.
    """
    tokenizer = Tokenizer(BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    trainer = BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL.values()), min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    first, last = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(each, tokenizer.token_to_id(each)) for each in (first, last)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, model_max_length=longest, model_input_names=list(INPUTS), **SPECIAL
    )
