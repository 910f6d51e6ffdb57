# %% [markdown]
# # 3. The forward pass and the backward pass
# A model is used in one direction: numbers go in, a **prediction** comes out. That is the **forward pass**. To learn,
# the prediction is compared with the right answer, the **target**; how wrong it is, as one number, is the **loss**.
# Then autograd goes from the loss back to every weight: the **backward pass**. It gives a slope for each weight.

# %%
import numpy as np  # tables of numbers without gradients
import tensorflow as tf
import torch

x = np.array([[1, 2], [2, 3]], np.float32)  # two rows of two numbers
target = np.array([[1], [2]], np.float32)  # the right answer of each row
weights, bias = np.array([[0.5], [-1]], np.float32), np.array([0.25], np.float32)

# %% [markdown]
# The loss here is the **mean squared error**: prediction minus target for each row, squared so that too much and too
# little both count, and the average over the rows. First by hand, then by both libraries:

# %%
error = x @ weights + bias - target
print("errors of the two rows:", error.ravel(), "loss:", (error**2).mean())  # .ravel(): without inner brackets

w, b = torch.tensor(weights, requires_grad=True), torch.tensor(bias, requires_grad=True)
loss = ((torch.tensor(x) @ w + b - torch.tensor(target)) ** 2).mean()  # the forward pass
loss.backward()  # the backward pass

w_tf, b_tf = tf.Variable(weights), tf.Variable(bias)
with tf.GradientTape() as tape:
    loss_tf = tf.reduce_mean((x @ w_tf + b_tf - target) ** 2)  # the forward pass
slopes = tape.gradient(loss_tf, [w_tf, b_tf])  # the backward pass
print("PyTorch:    loss", loss.item(), "slopes of the weights", w.grad.ravel().tolist())
print("TensorFlow: loss", loss_tf.numpy(), "slopes of the weights", slopes[0].numpy().ravel().tolist())
assert np.isclose(loss.item(), (error**2).mean())  # .item(): the number alone; isclose: equal but for rounding
assert np.isclose(loss.item(), loss_tf.numpy())
assert np.allclose(w.grad.numpy(), slopes[0].numpy())

# %% [markdown]
# What did the backward pass do? A weight that is multiplied by a large input has a large effect on the prediction, so
# its slope is large, too. Written out, the slope of a weight is the average over the rows of `2 * error * input`:

# %%
by_hand = (2 * error * x).mean(axis=0)  # each row's error times each of its inputs; axis=0: down the rows
print("by hand:                  slopes of the weights", by_hand.tolist())
assert np.allclose(by_hand, w.grad.numpy().ravel())

# %% [markdown]
# All slopes are negative: larger weights would make this loss smaller. Lesson 4 takes that step.
#
# ## Exercise
# The bias is added to the prediction as it is, as if its input were always 1. Write its slope with `error`, which has
# one number for each row, as above for the weights. (What autograd found, `b.grad`, is only what it is compared with.)

# %%
answer = ...
solved = answer is not ... and answer is not b.grad and np.allclose(answer, b.grad.item())
print("Exercise: solved" if solved else "Exercise: not solved yet")
