# %% [markdown]
# # 8. PyTorch or TensorFlow?
# Lessons 1 to 6 gave equal results with both, so results do not decide. What does:
#
# | | PyTorch | TensorFlow with Keras |
# |---|---|---|
# | training | a loop that you write and can change anywhere | `fit`; a loop of your own where you need one |
# | finding a mistake | a debugger can stop at any line | the same, but `fit` compiles: set `run_eagerly=True` first |
# | published models | nearly all new ones, transformers among them | many older ones; Keras runs on both, and on JAX |
# | phones, small devices | ExecuTorch, or by export to LiteRT or ONNX | LiteRT is at home here |
# | servers | ONNX Runtime, TorchServe (no longer developed) | TensorFlow Serving, ONNX Runtime |
#
# So: take what your team, or the model that you start from, already uses. Without either: PyTorch to change models and
# to learn, Keras for usual models in few lines. Serving need not decide: lesson 9.
#
# One difference surprises everybody. PyTorch runs your Python at every call. TensorFlow's `tf.function` runs it once
# to write down the operations, a **graph**, and from then on runs the graph without your Python:

# %%
import tensorflow as tf
import torch

runs = {"PyTorch": 0, "TensorFlow": 0}


def double(x, library):
    runs[library] += 1  # Python of your own, like a print
    return x * 2


graph = tf.function(lambda x: double(x, "TensorFlow"))
for rows in (1, 1, 1):
    a = double(torch.ones(rows, 2), "PyTorch")
    b = graph(tf.ones((rows, 2)))
    assert a.tolist() == b.numpy().tolist()
print("times that the Python ran in three calls:", runs)
assert runs == {"PyTorch": 3, "TensorFlow": 1}

# %% [markdown]
# The results are equal, the Python is not: a `print`, a counter, an `if` on a Python value is frozen at the first
# call. For a new shape the graph is written again. That costs time, which is why servers fix shapes or allow any
# number of rows. PyTorch has graphs, too: `torch.compile` compiles again when a shape or a Python value changes,
# `torch.export` writes one graph for good. Every file of lesson 9 holds a graph; only TorchServe's `.mar` may hold
# Python code with weights instead.
#
# ## Exercise
# Another graph is called with 1, 2, 1, 3 and 2 rows. How often does its Python run?

# %%
answer = ...
runs["exercise"], graph = 0, tf.function(lambda x: double(x, "exercise"))
for rows in (1, 2, 1, 3, 2):
    graph(tf.ones((rows, 2)))
solved = answer == runs["exercise"]
print("Exercise: solved" if solved else "Exercise: not solved yet")
