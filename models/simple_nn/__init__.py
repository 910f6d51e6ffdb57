"""simple_nn: one linear layer in PyTorch, y = W x + b."""
