"""The training loop: AdamW with a warm-up, the epoch with the lowest validation loss is kept."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.run import Diverged
from training.text_classifier.corpus import Corpus, Part
from training.text_classifier.network import Network

# Of all steps, those in which the rate grows from zero: https://arxiv.org/abs/1810.04805, appendix A.2.
WARMUP = 0.1
WEIGHT_DECAY = 0.01
MAX_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    epochs: int
    lr: float
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave: mean losses per text in nats, accuracy on the validation part."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float


def fit(network: Network, corpus: Corpus, plan: Plan, say: Callable[[str], None]) -> list[Epoch]:
    """Train in place and leave the weights of the best epoch; return every epoch's figures. Raises Diverged."""
    model, device = network.model, _device()
    model.to(device)
    steps = _Steps(model, plan.lr, plan.epochs * math.ceil(len(corpus.train.texts) / plan.batch))
    order = np.random.default_rng(plan.seed)
    history: list[Epoch] = []
    best: Any = None
    for number in range(1, plan.epochs + 1):
        began = time.monotonic()
        shuffled = order.permutation(len(corpus.train.texts))
        batches = [shuffled[start : start + plan.batch] for start in range(0, len(shuffled), plan.batch)]
        train_loss = _train(network, corpus.train, batches, steps)
        loss, accuracy = _judge(predict(network, corpus.validation.texts), corpus.validation.labels)
        if not math.isfinite(train_loss + loss):
            raise Diverged(f"the loss is {train_loss} at epoch {number}; try a smaller --lr")
        if not history or loss < min(epoch.validation_loss for epoch in history):
            best = copy.deepcopy(model.state_dict())
        history.append(Epoch(train_loss, loss, accuracy))
        say(
            f"Epoch {number}/{plan.epochs}, Loss: {train_loss:.4f}, validation: {loss:.4f}, accuracy {accuracy:.3f} "
            f"({time.monotonic() - began:.1f} s)"
        )
    if best is not None:
        model.load_state_dict(best)
    model.to("cpu").eval()
    return history


def predict(network: Network, texts: Sequence[str], batch: int = 64) -> NDArray[np.float64]:
    """Return the logits [texts, labels] in evaluation mode."""
    network.model.eval()
    with torch.inference_mode():
        parts = [
            network.model(**_encoded(network, texts[start : start + batch])).logits.double().cpu()
            for start in range(0, len(texts), batch)
        ]
    return np.asarray(torch.cat(parts).numpy())


def _judge(logits: NDArray[np.float64], labels: Sequence[int]) -> tuple[float, float]:
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(labels))
    return float(loss), float((logits.argmax(1) == np.asarray(labels)).mean())


class _Steps:
    """The optimizer and its rate: up over the first steps, then down to zero."""

    def __init__(self, model: Any, lr: float, count: int) -> None:
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.AdamW(self._parameters, lr=lr, weight_decay=WEIGHT_DECAY)
        warm = max(1, round(WARMUP * count))
        self._rate = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: (step + 1) / warm if step < warm else max(0.0, (count - step) / max(1, count - warm)),
        )

    def take(self, loss: Any) -> None:
        """Change the weights against a loss."""
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, MAX_NORM)
        self._optimizer.step()
        self._rate.step()


def _train(network: Network, part: Part, batches: Sequence[NDArray[Any]], steps: _Steps) -> float:
    """Make one pass over the texts, batches of their numbers; return the mean loss."""
    model, total = network.model.train(), 0.0
    for batch in batches:
        labels = torch.tensor([part.labels[number] for number in batch], device=model.device)
        loss = model(**_encoded(network, [part.texts[number] for number in batch]), labels=labels).loss
        steps.take(loss)
        total += loss.item() * len(batch)
    return total / len(part.texts)


def _encoded(network: Network, texts: Sequence[str]) -> dict[str, Any]:
    found = network.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    return {name: tensor.to(network.model.device) for name, tensor in found.items()}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
