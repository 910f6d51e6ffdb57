"""Pictures of a training: its losses, and which labels are taken for which."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from training.text_classifier.fit import Epoch

TRAIN, VALIDATION = "#ee4c2c", "#1f3a5f"


def losses(history: Sequence[Epoch], title: str) -> bytes:
    """Return a PNG: losses of the training and validation part, and below them the accuracy on the latter."""
    plt = _pyplot()
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6), dpi=150, layout="constrained", sharex=True)
    epochs = range(1, len(history) + 1)
    above.plot(epochs, [epoch.train_loss for epoch in history], color=TRAIN, label="training")
    above.plot(epochs, [epoch.validation_loss for epoch in history], color=VALIDATION, label="validation")
    above.set(ylabel="loss (cross-entropy, nats)")
    above.set_title(title, loc="left", fontweight="bold")
    above.legend(frameon=False)
    below.plot(epochs, [epoch.validation_accuracy for epoch in history], color=VALIDATION)
    below.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
    for axes in (above, below):
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.25)
    return _png(figure, plt)


def confusion(counts: NDArray[np.int64], labels: Sequence[str], title: str) -> bytes:
    """Return a PNG of counts [label, predicted label], with each label's accuracy beside its row."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 8), dpi=150, layout="constrained")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"  # noqa: PLR2004 - what reads on the blue
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    names = [f"{label}  {share:.0%}" for label, share in zip(labels, shares.diagonal(), strict=True)]
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set(xlabel="predicted", ylabel="true label, and how many of its texts are found")
    axes.set_title(title, loc="left", fontweight="bold")
    return _png(figure, plt)


def _pyplot() -> Any:
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    return plt


def _png(figure: Any, plt: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    return content.getvalue()
