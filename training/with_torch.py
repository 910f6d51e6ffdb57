"""Full-batch SGD in PyTorch."""

import safetensors.torch
import torch

from models.registry import read_models
from training.run import Diverged, Run, Trained, Watch


def device() -> tuple[str, str]:
    """Return the device to train on, and a line that says what PyTorch found."""
    found = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if found else "none, training on the CPU"
    return "cuda" if found else "cpu", f"PyTorch {torch.__version__}: torch.cuda.is_available() = {found}; GPU: {name}"


def train(run: Run, device: str, watch: Watch) -> Trained:
    """Train from the seeded start; `watch` sees each epoch's loss. Raises Diverged."""
    own = read_models()[run.model].training()
    model = read_models()[run.model].build().to(device)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in own.initial_weights(run.seed).items()})
    inputs, targets = (torch.from_numpy(values).to(device) for values in (own.INPUTS, own.TARGETS))
    optimizer = torch.optim.SGD(model.parameters(), lr=run.lr)
    losses = []
    for epoch in range(1, run.epochs + 1):
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        losses.append(loss.item())
        watch(epoch, losses[-1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = weights_of(model)
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):  # losses are those before each step
        raise Diverged(f"a weight is not finite after epoch {run.epochs}; try a smaller --lr")
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    settings = {"weights": ", ".join(dtypes)}
    return Trained(losses, safetensors.torch.save(weights), device, f"torch {torch.__version__}", settings)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a model's weights by name, as safetensors takes them: of several names of one tensor, the first."""
    own = model.state_dict(keep_vars=True)  # the tensors themselves: tied ones are one object
    first = {id(tensor): name for name, tensor in reversed(own.items())}
    return {name: own[name].detach().cpu().contiguous() for name in own if first[id(own[name])] == name}
