# %% [markdown]
# # 9. Where a model runs
# A trained model is a file, and a **server** is a program that loads it and answers requests. Which file goes where:
#
# | server | file | from PyTorch | from Keras |
# |---|---|---|---|
# | TorchServe: no longer developed | `.mar`: Python code with weights or a graph | yes | no |
# | ONNX Runtime: on nearly everything | `.onnx` | `torch.onnx.export` | `tf2onnx` |
# | TensorFlow Serving | SavedModel, a folder | rewritten in Keras | `model.export` |
# | LiteRT: phones and small devices | `.tflite` | `litert-torch`, or rewritten in Keras | TensorFlow's converter |
# | TPU: Google's chips for matrix products | [StableHLO](../tpu.md) | by `torchax` | by Keras on JAX |
#
# `make train export` writes the two models of lesson 5 as all but `.tflite`, and the right answers beside them to prove
# each file by. `make import` writes what it can of a [file of your own](../import.md). No TPU was measured here.
#
# The same model, `policy_classifier` of lesson 10, was put on four of the servers by `make demo-text`, got the same
# requests, and had every answer checked. What that wrote is kept beside this lesson ([summary.json](summary.json); the
# same figures are in the [README](../../README.md)):

# %%
import json
from pathlib import Path

# Beside this file. A notebook has no __file__: there it is the folder that the notebook runs in.
run = json.loads((Path(globals().get("__file__", "here")).resolve().parent / "summary.json").read_text())
result = {path["stack"]: (path["engine"], path["response_p50_ms"], path["response_p99_ms"]) for path in run["paths"]}

print(f"{run['started'][:10]}, {run['host']['cpu']}, {run['host']['cores']} cores, commit {run['git_commit'][:7]},")
print(f"{run['arguments']['rate']:.0f} requests a second: milliseconds from request to answer")
print(f"{'':12}{'half are faster':>18}{'99 % are faster':>18}")
for stack, (engine, p50, p99) in result.items():
    print(f"{stack:12}{p50:>15.1f} ms{p99:>15.1f} ms  {engine}")
assert result.keys() == {"litert", "onnx", "tfserving", "torchserve"}
assert run["valid"]  # the generator kept up
assert not any(path["errors"] or path["wrong_answers"] for path in run["paths"])  # fast and wrong would not count

# %% [markdown]
# "embedded" is a stand-in that speaks TensorFlow Serving's protocol, so that row says nothing of the real one. Another
# machine or model gives another order. That is why this project exists: `make compare FILE=model.onnx` finds yours.
#
# ## Exercise
# Of every hundred requests one takes longer than the second time of its row, the **p99**. How many times longer is
# TorchServe's p99 than ONNX Runtime's, rounded to one decimal? A calculation with `result` is a fine answer: each tuple
# holds engine, p50 and p99.

# %%
answer = ...
solved = answer is not ... and abs(answer - result["torchserve"][2] / result["onnx"][2]) < 0.051
print("Exercise: solved" if solved else "Exercise: not solved yet")
