# %% [markdown]
# # 9. Where a model runs
# A trained model is a file, and a **server** is a program that loads it and answers requests. Which file goes where:
#
# | server | file | from PyTorch | from Keras |
# |---|---|---|---|
# | TorchServe: no longer developed | `.mar`: weights and Python code | yes | no |
# | ONNX Runtime: on nearly everything | `.onnx` | `torch.onnx.export` | `tf2onnx` |
# | TensorFlow Serving | SavedModel, a folder | rewritten in Keras | `model.export` |
# | LiteRT: phones and small devices | `.tflite` | `litert-torch`, or rewritten in Keras | TensorFlow's converter |
# | TPU: Google's chips for matrix products | [StableHLO](../tpu.md) | by `torchax` | by Keras on JAX |
#
# `make train export` writes the two models of lesson 5 as all but `.tflite`, and the right answers beside them to prove
# each file by. `make import` writes what it can of a [file of your own](../import.md). No TPU was measured here.
#
# The same model, `policy_classifier` of lesson 10, was put on four of the servers, got the same requests, and had
# every answer checked. The lesson reads the figures of the table in the [README](../../README.md):

# %%
import re
from pathlib import Path

here = Path(globals().get("__file__", "here")).resolve().parent
readme = next(folder for folder in (here, *here.parents) if (folder / "deployments.toml").exists()) / "README.md"
published = readme.read_text().split("```\n\n| path | engine | p50 ms | p99 ms | errors | wrong answers |")[1]
table, rest = published.split("\n\n", 1)
rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
result = {path.partition("@")[2]: (engine, float(p50), float(p99)) for path, engine, p50, p99, _, _ in rows}
wrong = [int(row[5]) for row in rows]
when, commit = re.search(r"\d{4}-\d\d-\d\d", rest)[0], re.search(r"commit `(\w+)`", rest)[1]

print(f"{when}, a virtual machine with two cores, commit {commit}: milliseconds from request to answer")
print(f"{'':12}{'half are faster':>18}{'99 % are faster':>18}")
for stack, (engine, p50, p99) in result.items():
    print(f"{stack:12}{p50:>15} ms{p99:>15} ms  {engine}")
assert result.keys() == {"litert", "onnx", "tfserving", "torchserve"}
assert not any(wrong)  # fast and wrong would not count

# %% [markdown]
# "embedded" is a stand-in that speaks TensorFlow Serving's protocol, so that row says nothing of the real one. Another
# machine or model gives another order. That is why this project exists: `make compare FILE=model.onnx` finds yours.
#
# ## Exercise
# Of every hundred requests one takes longer than the second figure, the **p99**. How many times longer is TorchServe's
# p99 than ONNX Runtime's, rounded to one decimal? A calculation with `result` is a fine answer.

# %%
answer = ...
solved = answer is not ... and abs(answer - result["torchserve"][2] / result["onnx"][2]) < 0.051
print("Exercise: solved" if solved else "Exercise: not solved yet")
