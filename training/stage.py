"""Train one model and leave its weights, contract and history in OUT/MODEL/."""

import importlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from models.registry import MODELS
from store.atomic import write_file
from training.run import Diverged, Run

# Named and not imported: each imports its framework, which takes seconds.
LOOPS = MappingProxyType({"torch": "training.with_torch", "keras": "training.with_keras"})


def train(run: Run, out: Path) -> None:
    """Train `run.model`, showing every epoch. Raises Diverged or OSError; then no file has changed."""
    model = MODELS[run.model]
    loop = importlib.import_module(LOOPS[model.framework])
    device, found = loop.device()
    print(f"{run.model}: {found}")
    trained = loop.train(run, device, _show)
    history = asdict(run) | {"framework": trained.framework_version, "device": trained.device}
    folder = out / run.model
    write_file(folder / "spec.json", json.dumps(model.spec.to_dict(), indent=2) + "\n")
    write_file(folder / "history.json", json.dumps(history | {"losses": trained.losses}, indent=2) + "\n")
    write_file(folder / model.weights, trained.weights)
    print(f"{run.model}: wrote {folder}")


def _show(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss} at epoch {epoch}; try a smaller --lr")
    print(f"Epoch {epoch}, Loss: {loss:.6f}", flush=True)
