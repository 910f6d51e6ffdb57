# %% [markdown]
# # 1. Tensors
# A **tensor** holds numbers of one type: a single number, a row of them, a table, or several tables. A table is like a
# list of lists in Python, but every row has the same length. A tensor has a **shape**, how many numbers lie along each
# direction (rows, then columns), and a **dtype**, the type of its numbers. PyTorch (`torch`) and TensorFlow (`tf`) are
# two libraries that compute with tensors. Here are two customers, each described by two numbers:

# %%
import tensorflow as tf
import torch

rows = [[1.0, 2.0], [2.0, 3.0]]
in_torch, in_tf = torch.tensor(rows), tf.constant(rows)
print("PyTorch:   ", tuple(in_torch.shape), in_torch.dtype)
print("TensorFlow:", tuple(in_tf.shape), in_tf.dtype)
assert tuple(in_torch.shape) == tuple(in_tf.shape) == (2, 2)

# %% [markdown]
# `(2, 2)` says two rows of two numbers. `float32` is a number with a fraction, kept in 32 bits, exact to about seven
# digits; Python's own `float` has 64 bits. Models use 32, since they need half the memory and are quicker to compute
# with.
#
# Arithmetic works on all numbers at once, without a loop:

# %%
print(in_torch * 10)
print((in_tf * 10).numpy())  # .numpy() shows a tensor of TensorFlow as plain numbers
assert (in_torch * 10).tolist() == (in_tf * 10).numpy().tolist() == [[10, 20], [20, 30]]

# %% [markdown]
# The operation that models are made of is the **matrix product**, written `@`. Each number of a row is multiplied by a
# number of its own, a **weight**, and the products are added up. `b`, the **bias**, is added at the end. Of the first
# row, `1, 2`, the weights `0.5, -1` and the bias `0.25` that makes `1 * 0.5 + 2 * -1 + 0.25`:

# %%
weights, b = [[0.5], [-1.0]], 0.25  # one column: each row gives one number
by_hand = [[x1 * 0.5 + x2 * -1.0 + 0.25] for x1, x2 in rows]
y_torch = in_torch @ torch.tensor(weights) + b
y_tf = in_tf @ tf.constant(weights) + b
print("by hand:", by_hand, "PyTorch:", y_torch.tolist(), "TensorFlow:", y_tf.numpy().tolist())
assert by_hand == y_torch.tolist() == y_tf.numpy().tolist() == [[-1.25], [-1.75]]

# %% [markdown]
# This is a **layer**, and already a whole model: the two of this project, `simple_nn` and `keras_dense`, are no larger.
# A **network** has many layers, each of which works on the results of the one before. The weights and biases of a model
# are its **parameters**. The layer does both rows in one go: such a group of rows is called a **batch**. The shapes
# must fit: `(2, 2) @ (2, 1)` gives `(2, 1)`. The two numbers in the middle must be equal; the result has the two on the
# outside.
#
# ## Exercise
# A table has 5 rows of 3 numbers, the shape `(5, 3)`. Which shape must the weights have to get 4 numbers for each row?
# Replace the three dots by a pair such as `(7, 8)` and run the lesson again. With a wrong pair PyTorch may stop with
# `mat1 and mat2 shapes cannot be multiplied`, an error that everybody meets.

# %%
answer = ...
solved = answer is not ... and (torch.zeros(5, 3) @ torch.zeros(answer)).shape == (5, 4)
print("Exercise: solved" if solved else "Exercise: not solved yet")
