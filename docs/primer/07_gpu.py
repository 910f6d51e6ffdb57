# %% [markdown]
# # 7. Is there a GPU?
# A GPU does thousands of multiplications at a time: large models train and answer many times faster on one. The models
# of lessons 1 to 6 do not, they are too small to be worth moving there. Each library is asked in its own words:

# %%
import numpy as np
import tensorflow as tf
import torch

found, found_tf = torch.cuda.is_available(), tf.config.list_physical_devices("GPU")
print("PyTorch finds a GPU:   ", found, torch.cuda.get_device_name() if found else "")
print("TensorFlow finds a GPU:", bool(found_tf), [gpu.name for gpu in found_tf])

# %% [markdown]
# They can differ: each wants a driver and CUDA libraries of certain versions, and says no without an error where they
# are missing (the `cudart_stub` lines of TensorFlow are that). `nvidia-smi` in a terminal shows what the driver sees.
#
# **PyTorch** computes where the numbers lie, and they lie on the CPU unless you move them. Model and rows must be on
# the same device, or it stops with `Expected all tensors to be on the same device`. **TensorFlow** takes a GPU by
# itself where there is one, and all its memory; `tf.config.experimental.set_memory_growth`, called before anything is
# computed, makes it take what it needs.

# %%
device = "cuda" if found else "cpu"
x = np.array([[1, 2], [2, 3]], np.float32)
model = torch.nn.Linear(2, 1).to(device)  # moves the weights
y = model(torch.tensor(x).to(device))  # moves the rows
print("PyTorch computed on", y.device)

with tf.device("GPU:0" if found_tf else "CPU:0"):
    weights, bias = (value.detach().cpu().numpy() for value in (model.weight.T, model.bias))
    y_tf = tf.constant(x) @ weights + bias
print("TensorFlow computed on", y_tf.device)
assert y.device.type == device
assert ("GPU" in y_tf.device) == bool(found_tf)
assert np.allclose(y.detach().cpu().numpy(), y_tf.numpy(), atol=1e-3)

# %% [markdown]
# Why `1e-3` and not a millionth as before? GPUs add up in another order, and TensorFlow may round inputs to ten bits
# (TF32) on recent ones: faster, and less exact. ServePath therefore proves each model on the device that serves it,
# and `make gpu-check HERE=1` shows that every service really computes on the GPU; it fails where there is none.
#
# ## Exercise
# A model must fit into the GPU's memory. A number in float32 takes four bytes. How many bytes do the weights and the
# biases of a layer with 1000 inputs and 200 outputs take? Each output has a weight for each input, and one bias.

# %%
answer = ...
layer = torch.nn.Linear(1000, 200)
solved = answer == sum(numbers.numel() * numbers.element_size() for numbers in layer.parameters())
print("Exercise: solved" if solved else "Exercise: not solved yet")
