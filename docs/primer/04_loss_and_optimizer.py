# %% [markdown]
# # 4. Loss and optimizer
# The **loss** says how wrong a model is. The **optimizer** moves each weight against its slope. The plainest one is
# **SGD**, stochastic gradient descent: `weight = weight - rate * slope`. The **learning rate** says how long a step is.
# "Stochastic" means by chance: a step usually takes a few rows, drawn at random. Here each step takes all rows.

# %%
import keras  # models, losses and optimizers; here it computes with TensorFlow
import numpy as np
import torch

x, target = np.array([[1, 2], [2, 3]], np.float32), np.array([[1], [2]], np.float32)
START, BIAS = np.array([[0.5], [-1]], np.float32), np.array([0.25], np.float32)


def pytorch_steps(optimizer, steps):  # optimizer: a function that makes one for the parameters it is given
    model = torch.nn.Linear(2, 1)  # a layer, two numbers in and one out: x @ weights + bias; it keeps weights in a row
    model.load_state_dict({"weight": torch.tensor(START.T), "bias": torch.tensor(BIAS)})  # sets both; .T: as a row
    chosen = optimizer(model.parameters())
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(target))  # the mean squared error
        chosen.zero_grad()  # clear the slopes of the step before
        loss.backward()
        chosen.step()
    return np.append(model.weight.detach().numpy(), model.bias.detach().numpy())  # .detach(): without autograd's notes


def keras_steps(optimizer, steps):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])  # the same: x @ weights + bias
    model.set_weights([START, BIAS])
    model.compile(optimizer=optimizer, loss="mse")  # "mse" is the mean squared error
    model.fit(x, target, epochs=steps, batch_size=2, shuffle=False, verbose=0)  # an epoch is one step here: lesson 5
    return np.append(*model.get_weights())  # the weights, then the bias


# %% [markdown]
# Equal starts and equal steps must give equal weights, in both libraries and by hand, and equal biases:

# %%
by_hand = START.ravel() - 0.01 * (2 * (x @ START + BIAS - target) * x).mean(axis=0)
sgd = pytorch_steps(lambda w: torch.optim.SGD(w, lr=0.01), 1), keras_steps(keras.optimizers.SGD(0.01), 1)
print("after one step: weights by hand", by_hand, "and with the bias: PyTorch", sgd[0], "Keras", sgd[1])
assert np.allclose(by_hand, [each[:2] for each in sgd], atol=1e-6)  # atol: what rounding may do
# Adam gives each weight a step length of its own: the usual first choice for networks larger than this.
adam = pytorch_steps(lambda w: torch.optim.Adam(w, lr=0.01), 5), keras_steps(keras.optimizers.Adam(0.01), 5)
print("after five of Adam: PyTorch", adam[0], "Keras", adam[1])
assert np.allclose([sgd[0], adam[0]], [sgd[1], adam[1]], atol=1e-5)  # weights and biases

# %% [markdown]
# ## Exercise
# One weight stands at 0, its loss is `(w - 3) ** 2`, so its slope there is -6. Which rate takes it to 3 in one step?

# %%
answer = ...
w = torch.zeros(1, requires_grad=True)
((w - 3) ** 2).sum().backward()
if answer is not ...:
    torch.optim.SGD([w], lr=answer).step()
solved = w.item() == 3
print("Exercise: solved" if solved else "Exercise: not solved yet")
