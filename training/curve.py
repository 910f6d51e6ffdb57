"""The loss curves of all trained models in one picture."""

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from models.registry import read_models
from servepath.artifacts.atomic import write_file

# Twins lie on top of each other: broad and pale below, thin and dashed above.
LOOKS: Sequence[Mapping[str, Any]] = (
    {"color": "#ee4c2c", "linewidth": 6, "alpha": 0.4},
    {"color": "#1f3a5f", "linewidth": 1.6, "linestyle": (0, (4, 2))},
)


def draw(out: Path) -> Path:
    """Draw OUT/MODEL/history.json of every model that has one; return the picture's path, OUT/loss_curve.png."""
    path = out / "loss_curve.png"
    histories = [
        json.loads(file.read_text()) for name in read_models() if (file := out / name / "history.json").exists()
    ]
    write_file(path, _picture(histories))
    return path


def _picture(histories: Sequence[Mapping[str, Any]]) -> bytes:
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=150, layout="constrained")
    for history, look in zip(histories, itertools.cycle(LOOKS), strict=False):
        axes.plot(range(1, len(history["losses"]) + 1), history["losses"], label=_label(history), **look)
    axes.set(xlabel="epoch", ylabel="loss (mean squared error)", yscale="log")
    axes.set_title("Training loss", loc="left", fontweight="bold")
    axes.yaxis.set_minor_locator(mpl.ticker.LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    return content.getvalue()


def _label(history: Mapping[str, Any]) -> str:
    return f"{history['model']}: {history['framework']}, lr {history['lr']:g}, seed {history['seed']}"
