# %% [markdown]
# # 5. The training loop
# Training repeats lesson 4: forward pass, loss, backward pass, step. One pass over all rows is an **epoch**. Both rows
# are one batch here, so an epoch is one step. In PyTorch you write the loop; in Keras `fit` is the loop. These are the
# models of this project, `simple_nn` and `keras_dense`, and their data (`models/simple_nn/training.py`); only the start
# is chosen here. The right answer is the first number of each row.

# %%
import keras
import numpy as np
import torch

x, target = np.array([[1, 2], [2, 3]], np.float32), np.array([[1], [2]], np.float32)
START, BIAS = np.array([[0.5], [-1]], np.float32), np.array([0.25], np.float32)


def train_pytorch(epochs, rate=0.01):
    model, losses = torch.nn.Linear(2, 1), []
    start = {"weight": torch.tensor(START.T), "bias": torch.tensor(BIAS)}
    model.load_state_dict(start)  # the weights by name: this call also loads a trained model from a file
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(epochs):
        loss = torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(target))  # forward pass, loss
        losses.append(loss.item())  # .item(): the number alone
        optimizer.zero_grad()
        loss.backward()  # backward pass
        optimizer.step()
    return model, losses


def train_keras(epochs, rate=0.01):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.set_weights([START, BIAS])
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    return model, model.fit(x, target, epochs=epochs, batch_size=2, shuffle=False, verbose=0).history["loss"]


# %%
(one, losses), (other, losses_keras) = train_pytorch(20), train_keras(20)
for steps in 0, 1, 2, 10, 19:
    print(f"after {steps:2} steps: loss {losses[steps]:.6f} in PyTorch, {losses_keras[steps]:.6f} in Keras")
print("after 20 steps: weights", one.weight.detach().numpy().ravel(), "bias", one.bias.detach().numpy())
assert np.allclose(losses, losses_keras, atol=1e-5)  # atol: the two round the seventh digit differently
assert np.allclose(one.weight.detach().numpy().T, other.get_weights()[0], atol=1e-5)
assert np.allclose(one.bias.detach().numpy(), other.get_weights()[1], atol=1e-5)
assert losses[-1] < losses[0] / 100

# %% [markdown]
# Equal starts, data, losses and steps gave equal weights: a model's answers do not show which library trained it. The
# loss fell quickly, then slowly, and not because the weights are nearly right: thousands of steps more would take them
# to 1.25 and -0.25, and the bias to 0.25. In that direction the loss is nearly flat: small slopes, so small steps.
#
# ## Exercise
# `losses[0]` is the loss before any step, `losses[n]` that after `n` steps. How many does it take to get below 1? You
# may add a `print`, or a loop of your own.

# %%
answer = ...
solved = answer is not ... and losses[answer] < 1 <= losses[answer - 1]
print("Exercise: solved" if solved else "Exercise: not solved yet")
