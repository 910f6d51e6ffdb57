"""Train one model and leave its weights, contract and history in OUT/MODEL/."""

import importlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from models.registry import read_models
from servepath.artifacts.atomic import write_file
from training.run import Diverged, Run

# Named and not imported: each imports its framework, which takes seconds.
LOOPS = MappingProxyType({"torch": "training.with_torch", "keras": "training.with_keras"})


def train(run: Run, out: Path, say: Callable[[str], None]) -> None:
    """Train `run.model`, saying which device does it and every epoch's loss.

    Writes OUT/MODEL/{weights, spec.json, history.json}. Raises Diverged, with nothing written, or OSError.
    """
    model = read_models()[run.model]
    loop = importlib.import_module(LOOPS[model.framework])
    device, found = loop.device()
    say(f"{run.model}: {found}")
    trained = loop.train(run, device, lambda epoch, loss: _watch(epoch, loss, say))
    history = asdict(run) | {
        "framework": trained.framework_version,
        "settings": dict(trained.settings),
        "device": trained.device,
        "losses": trained.losses,
    }
    folder = out / run.model
    write_file(folder / "spec.json", json.dumps(model.spec.to_dict(), indent=2) + "\n")
    write_file(folder / "history.json", json.dumps(history, indent=2) + "\n")
    write_file(folder / model.weights, trained.weights)
    say(f"{run.model}: wrote {folder}")


def _watch(epoch: int, loss: float, say: Callable[[str], None]) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss} at epoch {epoch}; try a smaller --lr")
    say(f"Epoch {epoch}, Loss: {loss:.6f}")
