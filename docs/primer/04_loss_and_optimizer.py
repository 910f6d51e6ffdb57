# %% [markdown]
# # 4. Loss and optimizer
# The **loss** says how wrong a model is. The **optimizer** moves each weight the opposite way of its slope, plainest in
# **SGD** (stochastic gradient descent): `weight = weight - rate * slope`. Stochastic: by chance, mostly a few rows
# drawn at random per step; here all. The **learning rate** says how long a step is. Both libraries have both:

# %%
import keras  # models, losses and optimizers; here it computes with TensorFlow
import numpy as np
import torch

x, target = np.array([[1, 2], [2, 3]], np.float32), np.array([[1], [2]], np.float32)
START, BIAS = np.array([[0.5], [-1]], np.float32), np.array([0.25], np.float32)


def pytorch_steps(optimizer, steps):  # called as optimizer(weights), it makes one
    model = torch.nn.Linear(2, 1)  # two numbers in, one out: x @ weights + bias; its weights are a row, hence .T
    model.load_state_dict({"weight": torch.tensor(START.T), "bias": torch.tensor(BIAS)})
    chosen = optimizer(model.parameters())
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(target))  # the mean squared error
        chosen.zero_grad()  # clear the slopes of the step before
        loss.backward()
        chosen.step()
    return model.weight.detach().numpy().T  # .detach(): the numbers without autograd's notes


def keras_steps(optimizer, steps):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])  # the same: x @ weights + bias
    model.set_weights([START, BIAS])
    model.compile(optimizer=optimizer, loss="mse")  # says by what to learn; "mse" is the mean squared error
    model.fit(x, target, epochs=steps, batch_size=2, shuffle=False, verbose=0)  # epochs: steps; 0: print nothing
    return model.get_weights()[0]


# %% [markdown]
# Equal starts and equal steps must give equal weights, in both libraries and by hand:

# %%
by_hand = START.ravel() - 0.01 * (2 * (x @ START + BIAS - target) * x).mean(axis=0)
sgd = pytorch_steps(lambda w: torch.optim.SGD(w, lr=0.01), 1), keras_steps(keras.optimizers.SGD(0.01), 1)
print("after one step: by hand", by_hand, "PyTorch", sgd[0].ravel(), "Keras", sgd[1].ravel())
assert np.allclose(by_hand, [weights.ravel() for weights in sgd], atol=1e-6)  # atol: what rounding may do
# Adam gives each weight a step length of its own: the usual first choice for networks larger than this.
adam = pytorch_steps(lambda w: torch.optim.Adam(w, lr=0.01), 5), keras_steps(keras.optimizers.Adam(0.01), 5)
print("after five of Adam: PyTorch", adam[0].ravel(), "Keras", adam[1].ravel())
assert np.allclose(*adam, atol=1e-5)

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
