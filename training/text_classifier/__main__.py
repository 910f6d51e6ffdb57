"""Train a classifier of texts: `python -m training.text_classifier CORPUS --out FOLDER [--checkpoint FOLDER]`.

The folder is one of Hugging Face's, config.json, model.safetensors and tokenizer.json, which `servepath import` takes;
beside them lie the test part (LABEL, tab, TEXT), the figures on it and two pictures.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from servepath.artifacts.commit import git_commit
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import block_signals, run_main
from training.run import Diverged, Unusable
from training.text_classifier.corpus import Corpus, read

# What this program writes; a folder with anything else is somebody's, and stays.
WRITTEN = frozenset(
    {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "metrics.json",
        "loss_curve.png",
        "confusion_matrix.png",
        "test.tsv",
    }
)
MAX_EPOCHS, MAX_BATCH = 1000, 4096
FROM_SCRATCH, FINE_TUNED = (12, 1e-3), (3, 5e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line. epochs, lr: None for what fits the start."""

    corpus: Path
    out: Path
    size: str
    checkpoint: Path | None
    epochs: int | None
    lr: float | None
    batch: int
    seed: int


def parse_args(argv: Sequence[str]) -> Options:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="python -m training.text_classifier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "corpus",
        type=Path,
        nargs="?",
        default=Path("models/policy_classifier/corpus"),
        help="a folder of LABEL.txt files, one text per line (default: models/policy_classifier/corpus)",
    )
    add("--out", type=Path, default=Path("artifacts/models/policy_classifier"), help="default: %(default)s")
    add("--size", choices=("small", "base"), default="small", help="of a network from scratch (default: small)")
    add("--checkpoint", type=Path, metavar="FOLDER", help="a pretrained network to be fine-tuned, in place of --size")
    add("--epochs", type=whole(1, MAX_EPOCHS), help="passes over the texts (default: 12; 3 with --checkpoint)")
    add("--lr", type=positive, help="highest learning rate (default: 0.001; 0.00005 with --checkpoint)")
    add("--batch", type=whole(1, MAX_BATCH), default=32, help="texts a step (default: 32)")
    add("--seed", type=whole(0), default=0, help="of fresh weights and of the order of texts (default: 0)")
    return parser.read(Options, argv)


def train(options: Options) -> None:
    """Train, judge on the test part and write. Raises Unusable, Diverged, OSError."""
    corpus = read(options.corpus)
    _check_out(options.out)
    print(
        f"{len(corpus.labels)} labels; {len(corpus.train.texts)} texts to learn, {len(corpus.validation.texts)} to "
        f"choose the epoch by, {len(corpus.test.texts)} to test",
        flush=True,
    )
    with _replaced(options.out) as folder:
        accuracy = _write(options, corpus, folder)
    print(f"accuracy on the {len(corpus.test.texts)} texts of the test part: {accuracy:.3f}")
    print(f"wrote {options.out}; to serve it: servepath import {options.out} --name policy_classifier")


def _write(options: Options, corpus: Corpus, folder: Path) -> float:
    import torch  # noqa: PLC0415 - seconds, which --help need not take
    import transformers  # noqa: PLC0415

    from training.text_classifier import fit, network, pictures  # noqa: PLC0415

    torch.manual_seed(options.seed)
    epochs, lr = FROM_SCRATCH if options.checkpoint is None else FINE_TUNED
    plan = fit.Plan(options.epochs or epochs, options.lr or lr, options.batch, options.seed)
    if options.checkpoint is None:
        start = f"{options.size}, from scratch"
        made = network.SIZES[options.size](corpus.labels, corpus.train.texts)
    else:
        start = f"fine-tuned from {options.checkpoint.name}"
        made = network.pretrained(options.checkpoint, corpus.labels)
    size = sum(parameter.numel() for parameter in made.model.parameters())
    print(f"{start}: {size:,} parameters, {len(made.tokenizer)} tokens; PyTorch {torch.__version__}", flush=True)
    history = fit.fit(made, corpus, plan, lambda line: print(line, flush=True))
    found = fit.predict(made, corpus.test.texts).argmax(1)
    counts = np.zeros((len(corpus.labels),) * 2, np.int64)
    np.add.at(counts, (np.asarray(corpus.test.labels), found), 1)
    accuracy = float(counts.trace() / counts.sum())
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    labelled = zip(corpus.test.labels, corpus.test.texts, strict=True)
    (folder / "test.tsv").write_text("".join(f"{corpus.labels[label]}\t{text}\n" for label, text in labelled), "utf-8")
    title = f"{start}: {accuracy:.1%} of {counts.sum()} test texts right"
    (folder / "loss_curve.png").write_bytes(pictures.losses(history, title))
    (folder / "confusion_matrix.png").write_bytes(pictures.confusion(counts, corpus.labels, title))
    metrics = asdict(plan) | {
        "start": start,
        "parameters": size,
        "tools": {"torch": torch.__version__, "transformers": transformers.__version__},
        "git_commit": git_commit(),
        "history": [asdict(epoch) for epoch in history],
        "labels": list(corpus.labels),
        "test_accuracy": accuracy,
        "test_confusion": counts.tolist(),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return accuracy


def _check_out(out: Path) -> None:
    """Raise Unusable where OUT holds what this program does not write."""
    if out.exists() and (foreign := sorted({path.name for path in out.iterdir()} - WRITTEN)):
        raise Unusable(f"{out} has {foreign[0]}, which training does not write; choose another --out")


@contextlib.contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of OUT when the block ends well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as holder:
        new = Path(holder, "new")
        new.mkdir()
        yield new
        with block_signals():  # in between, there is neither
            old = Path(holder, "old")
            if out.exists():
                out.rename(old)
            try:
                new.rename(out)
            except OSError:
                if old.exists():
                    old.rename(out)
                raise


def main(argv: Sequence[str]) -> int:
    """Train what was asked for; return the exit code."""
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        OMP_WAIT_POLICY="PASSIVE",  # threads that spin would stand still beside anything else that computes
        TOKENIZERS_PARALLELISM="false",
        TRANSFORMERS_VERBOSITY="error",
    )
    try:
        train(parse_args(argv))
    except (Unusable, Diverged, OSError) as error:
        print(f"python -m training.text_classifier: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
