# %% [markdown]
# # 10. From the toy to a model that does something
# Two weights were enough to see how learning works. A model that reads sentences has millions, and the same loop.
# Almost nobody starts it from chance: one takes a **pretrained** model, which others have trained on a great deal of
# text, and trains it a little on examples of one's own: **fine-tuning**. In small, in both libraries: `body` stands
# for what has learned (random here) and is **frozen**: its weights stay; the new last layer, the **head**, learns:

# %%
import keras
import numpy as np
import torch

random = np.random.default_rng(0)
x, target = random.normal(size=(8, 4)).astype(np.float32), random.normal(size=(8, 1)).astype(np.float32)
known, new = random.normal(size=(4, 3)).astype(np.float32), np.zeros((3, 1), np.float32)

body, head = torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 1, bias=False)
body.load_state_dict({"weight": torch.tensor(known.T)})  # "pretrained"
head.load_state_dict({"weight": torch.tensor(new.T)})
body.requires_grad_(requires_grad=False)  # frozen: autograd takes no notes of it
optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
for _ in range(20):
    optimizer.zero_grad()
    features = torch.relu(body(torch.tensor(x)))  # relu: negative numbers become 0; else two layers equal one
    torch.nn.functional.mse_loss(head(features), torch.tensor(target)).backward()
    optimizer.step()

frozen = keras.layers.Dense(3, activation="relu", use_bias=False, trainable=False)  # frozen, too
model = keras.Sequential([keras.Input((4,)), frozen, keras.layers.Dense(1, use_bias=False)])
model.set_weights([known, new])
model.compile(keras.optimizers.SGD(0.01), loss="mse")
model.fit(x, target, epochs=20, batch_size=8, shuffle=False, verbose=0)
print("heads:", head.weight.detach().numpy().ravel(), model.layers[1].get_weights()[0].ravel())
assert np.array_equal([body.weight.numpy().T, frozen.get_weights()[0]], [known, known])  # frozen
assert np.allclose(head.weight.detach().numpy().T, model.layers[1].get_weights()[0], atol=1e-5)

# %% [markdown]
# In earnest: `.venv/bin/python -m training.text_classifier --checkpoint FOLDER` fine-tunes a Hugging Face model on
# sentences from HR policies, `policy_classifier`; without `--checkpoint` it trains a small one from scratch, in about
# a minute on a CPU, and draws its loss curve. `make demo-text` also serves it. Keep sentences back that training never
# sees, and judge by those.
#
# **What not to do**: train a model like GPT from scratch. One training takes about 6 operations for each weight and
# each token (a piece of a word). GPT-3 has 175 billion weights and read 300 billion tokens:

# %%
GPT_3, TOKENS, A_SECOND, YEAR = 175e9, 300e9, 100e9, 365 * 24 * 3600  # a few cores do some 100 billion a second
years = 6 * GPT_3 * TOKENS / A_SECOND / YEAR
print(f"GPT-3 on such a computer: {years:,.0f} years")
assert years > 50_000

# %% [markdown]
# ## Exercise
# How many minutes, by the same calculation, does fine-tuning all of DistilBERT take (66 million weights, 1920 sentences
# of 32 tokens, 3 times)?

# %%
answer = ...
solved = answer is not ... and abs(answer - 6 * 66e6 * 1920 * 32 * 3 / A_SECOND / 60) < 1
print("Exercise: solved" if solved else "Exercise: not solved yet")
