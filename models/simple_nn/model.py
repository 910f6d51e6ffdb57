"""simple_nn: one linear layer in PyTorch, y = W x + b.

This file travels inside the .mar and is loaded there alone: it imports torch and nothing else, and holds exactly one
class, which is made without arguments.
"""

import torch
from torch import nn


class SimpleNN(nn.Module):  # type: ignore[misc]
    """Two numbers in, one out: float32 [batch, 2] -> float32 [batch, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b of each row."""
        result: torch.Tensor = self.linear(x)
        return result
