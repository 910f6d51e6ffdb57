"""The loss curves of all trained models in one picture."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from models.registry import MODELS
from store.atomic import write_file

# One look a model: twins lie on top of each other, so the later one is thin and dashed.
LOOKS: Sequence[dict[str, Any]] = (
    {"color": "#ee4c2c", "linewidth": 5, "alpha": 0.45},
    {"color": "#1f3a5f", "linewidth": 1.6, "linestyle": (0, (4, 2)), "marker": "o", "markersize": 4},
)


def draw(out: Path) -> Path:
    """Draw the history of every model found in OUT; give the picture's path."""
    path = out / "loss_curve.png"
    histories = [json.loads(file.read_text()) for name in MODELS if (file := out / name / "history.json").exists()]
    write_file(path, _picture(histories))
    return path


def _picture(histories: Sequence[dict[str, Any]]) -> bytes:
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen, and only when drawing

    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=150, layout="constrained")
    for history, look in zip(histories, LOOKS, strict=False):
        axes.plot(range(1, len(history["losses"]) + 1), history["losses"], label=_label(history), **look)
    axes.set(xlabel="epoch", ylabel="loss (mean squared error)", yscale="log", title="Training loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    return content.getvalue()


def _label(history: dict[str, Any]) -> str:
    return f"{history['model']} ({history['framework']}), lr {history['lr']:g}, seed {history['seed']}"
