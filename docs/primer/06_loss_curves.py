# %% [markdown]
# # 6. Reading a loss curve
# Two losses drawn by epoch show what goes wrong: the **training loss**, of the rows that are learned, and the
# **validation loss**, of rows kept back to catch learning by heart. A target is a row's first number plus chance.

# %%
from pathlib import Path

import keras
import numpy as np
import torch
import vl_convert  # draws: a picture is a dict that says what lies on which axis (Vega-Lite)

x = np.random.default_rng(11).normal(size=(160, 16))  # by chance, the same each time; [:, :15]: columns 0 to 14
x, target, mse = x[:, :15], x[:, :1] + x[:, 15:], torch.nn.functional.mse_loss  # column 15 is the chance: not in x


def train(learned, rate, also=lambda *_: None):  # also: called with each step's rows; *_: takes any, does nothing
    rows, targets, model = torch.tensor(x), torch.tensor(target), torch.nn.Linear(15, 1).double()  # float64, as x is
    model.load_state_dict({"weight": torch.zeros(1, 15), "bias": torch.zeros(1)})
    optimizer, random, losses = torch.optim.SGD(model.parameters(), lr=rate), np.random.default_rng(1), []
    for _ in range(30):
        for batch in random.permutation(learned).reshape(-1, 4):  # four rows a step, in another order in each epoch
            optimizer.zero_grad()
            mse(model(rows[batch]), targets[batch]).backward()
            optimizer.step()
            also(x[batch], target[batch])
        losses.append([mse(model(rows[part]), targets[part]).item() for part in (slice(learned), slice(60, 160))])
    return np.array(losses), model.weight.detach().numpy()


cases = {"good": (60, 0.0025), "low": (60, 0.0005), "high": (60, 0.13), "divergence": (60, 0.23), "overfit": (16, 0.02)}
folder = Path(globals().get("__file__", "here")).with_name("pictures")  # beside this file; a notebook has no __file__
folder.mkdir(exist_ok=True)
for name, (learned, rate) in cases.items():  # what follows the print only draws the picture: you can skip it
    curve, weights = train(learned, rate)
    print(f"{name:10} first losses (learned, validation): {curve[0].round(2)}, last: {curve[-1].round(2)}")
    dots = [{"epoch": n + 1, "loss": y, "rows": ("learned", "validation")[k]} for (n, k), y in np.ndenumerate(curve)]
    y, by = {"field": "loss", "scale": {"type": "log" if name == "divergence" else "linear"}}, {"field": "rows"}
    axes = {"x": {"field": "epoch", "type": "quantitative"}, "y": y, "color": by, "strokeDash": by}
    svg = vl_convert.vegalite_to_svg({"data": {"values": dots}, "height": 170, "mark": "line", "encoding": axes}, "6.4")
    (folder / f"{name}.svg").write_text(svg)
other = keras.Sequential([keras.Input((15,)), keras.layers.Dense(1, kernel_initializer="zeros")])
other.compile(keras.optimizers.SGD(rate), loss="mse")
train(learned, rate, also=other.train_on_batch)  # Keras takes the last case's steps, too
assert np.allclose(weights.T, other.get_weights()[0], atol=1e-5)

# %% [markdown]
# - **Good**: both fall, and stay. ![fall, then level](pictures/good.svg)
# - **Rate too low**: not there yet. Raise it, or train longer. ![still falling](pictures/low.svg)
# - **Rate too high**: steps jump over the best weights and back. Lower it. ![up and down](pictures/high.svg)
# - **Divergence**: each jump is longer (grid: powers of ten). Lower the rate. ![rises](pictures/divergence.svg)
# - **Overfit**: 16 rows learned by heart, others get worse. More rows, or stop early. ![apart](pictures/overfit.svg)
# ## Exercise
# Stop where the validation loss is lowest: after which epoch is that in the last picture? Or print `curve`.

# %%
answer = ...
solved = answer is not ... and abs(curve[:, 1].argmin() + 1 - answer) <= 2
print("Exercise: solved" if solved else "Exercise: not solved yet")
