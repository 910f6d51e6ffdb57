# %% [markdown]
# # 2. Autograd
# Learning means changing weights so that a mistake becomes smaller. For that one must know which way to change them:
# does the mistake grow or shrink when a weight grows a little, and how fast? That speed is the **slope**, or
# **gradient**. Say there is one weight `w` and the mistake is `(w - 3) ** 2`: nothing at `w = 3`, more on both sides.

# %%
import tensorflow as tf
import torch


def mistake(w):
    return (w - 3) ** 2


# %% [markdown]
# The slope at `w = 1` can be measured: take a small step, and divide the change by the step.

# %%
measured = (mistake(1.0001) - mistake(1)) / 0.0001
print(f"measured slope at 1: {measured:.3f}")

# %% [markdown]
# -4: a little more of `w` makes the mistake less by four times as much. So `w` should grow. Large models have millions
# of weights, too many to measure. Both libraries get all slopes at once, and exactly: they note every operation and go
# back through the notes by the rules of calculus (which you need not know). That is **autograd**, automatic gradients.

# %%
w = torch.tensor(1.0, requires_grad=True)  # "take notes of what is done with this one"
mistake(w).backward()  # goes back through the notes, and leaves the slope in w.grad
print("PyTorch:   ", w.grad.item())  # .item(): the plain number

v = tf.Variable(1.0)  # TensorFlow's word for a number that training may change; it takes notes of it by itself
with tf.GradientTape() as tape:  # the notes are on a tape
    found = mistake(v)
slope = tape.gradient(found, v)
print("TensorFlow:", slope.numpy().item())
assert w.grad.item() == slope.numpy().item() == -4
assert abs(measured - w.grad.item()) < 0.001

# %% [markdown]
# A trap of PyTorch: `backward()` *adds* to `w.grad`. Training clears it before each step (`zero_grad()` in lesson 4).

# %%
mistake(w).backward()
print("PyTorch, twice without clearing:", w.grad.item())
assert w.grad.item() == -8

# %% [markdown]
# ## Exercise
# At which `w` is the slope of `mistake` exactly 10? Try some numbers: replace the three dots and run the lesson again.

# %%
answer = ...
if answer is not ...:
    tried = torch.tensor(float(answer), requires_grad=True)
    mistake(tried).backward()
    print(f"the slope at {answer} is {tried.grad.item()}")
solved = answer is not ... and tried.grad.item() == 10
print("Exercise: solved" if solved else "Exercise: not solved yet")
