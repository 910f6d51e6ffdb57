import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch

from export import trained
from models.registry import FOLDER, read_models
from models.simple_nn import training as data
from servepath.artifacts.spec import read_spec
from tests.limits import LONG_S
from training import curve, stage, with_torch
from training.__main__ import main
from training.run import Diverged, Run

EPOCHS = 10


def training(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("models")
    return out, training("--seed", 7, "--out", out)


def history(out: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / name / "history.json").read_text())
    return read


def kernel_and_bias(out: Path, name: str) -> tuple[list[float], list[float]]:
    kernel, bias = sorted(trained.read(out, name).weights.values(), key=np.size, reverse=True)
    return kernel.ravel().tolist(), bias.ravel().tolist()


def test_all_models_are_trained_by_one_quiet_command(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = run
    assert (done.returncode, done.stderr) == (0, "")
    epochs = [int(n) for n in re.findall(r"^Epoch (\d+), Loss: \d+\.\d+$", done.stdout, re.MULTILINE)]
    assert epochs == [*range(1, EPOCHS + 1)] * len(read_models())
    assert "torch.cuda.is_available() = " in done.stdout
    assert "tf.config.list_physical_devices('GPU') = " in done.stdout
    assert {path.name for path in out.iterdir()} == {"loss_curve.png", *read_models()}
    assert {path.name for path in (out / "keras_dense").iterdir()} == {"model.keras", "spec.json", "history.json"}
    assert {path.name for path in (out / "simple_nn").iterdir()} == {"weights.safetensors", "spec.json", "history.json"}


def test_both_frameworks_reach_the_same_losses_and_weights(run: tuple[Path, object]) -> None:
    out, _ = run
    losses = [history(out, name)["losses"] for name in ("simple_nn", "keras_dense")]
    assert [len(each) for each in losses] == [EPOCHS, EPOCHS]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-6)
    for mine, its in zip(kernel_and_bias(out, "simple_nn"), kernel_and_bias(out, "keras_dense"), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-6)


def test_the_losses_and_weights_are_those_of_gradient_descent_done_by_hand(run: tuple[Path, object]) -> None:
    out, _ = run
    kernel, bias = (values.T.astype(np.float64) for values in data.initial_weights(7).values())
    losses = []
    for _ in range(EPOCHS):
        off = data.INPUTS @ kernel + bias - data.TARGETS
        losses.append(float(np.mean(off**2)))
        kernel = kernel - 0.01 * data.INPUTS.T @ off
        bias = bias - 0.01 * 2 * off.mean(axis=0)
    np.testing.assert_allclose(history(out, "simple_nn")["losses"], losses, atol=1e-6)
    np.testing.assert_allclose(kernel_and_bias(out, "simple_nn")[0], kernel.ravel(), atol=1e-6)
    np.testing.assert_allclose(kernel_and_bias(out, "simple_nn")[1], bias, atol=1e-6)


def test_what_was_asked_for_is_in_the_history_and_the_contract_beside_it(run: tuple[Path, object]) -> None:
    out, _ = run
    for name, model in read_models().items():
        kept = history(out, name)
        assert (kept["model"], kept["seed"], kept["epochs"], kept["lr"]) == (name, 7, EPOCHS, 0.01)
        assert read_spec(out / name / "spec.json") == model.spec


def test_weights_that_are_tied_are_stored_once() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9, bias=False))
    model[1].weight = model[0].weight
    stored = safetensors.torch.load(safetensors.torch.save(with_torch.weights_of(model)))
    assert list(stored) == ["0.weight"]
    assert torch.equal(stored["0.weight"], model[0].weight)


def test_the_picture_is_one(run: tuple[Path, object]) -> None:
    out, _ = run
    picture = (out / "loss_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20]) >= 1000  # pixels of width


def test_every_trained_model_is_in_the_picture(run: tuple[Path, object], tmp_path: Path) -> None:
    out, _ = run
    (tmp_path / "simple_nn").symlink_to(out / "simple_nn")
    assert curve.draw(tmp_path).read_bytes() != (out / "loss_curve.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", read_models())
def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    run: tuple[Path, object], tmp_path: Path, name: str
) -> None:
    out, _ = run
    for seed in (7, 8):
        stage.train(Run(name, EPOCHS, 0.01, seed), tmp_path / str(seed), lambda _: None)
    assert kernel_and_bias(tmp_path / "7", name) == kernel_and_bias(out, name)
    assert kernel_and_bias(tmp_path / "8", name) != kernel_and_bias(out, name)


@pytest.mark.slow
def test_one_model_can_be_trained_longer_and_faster_than_by_default(tmp_path: Path) -> None:
    done = training("simple_nn", "--epochs", 50, "--lr", 0.05, "--out", tmp_path)
    assert done.returncode == 0
    assert len(re.findall("^Epoch ", done.stdout, re.MULTILINE)) == 50
    assert history(tmp_path, "simple_nn")["losses"][-1] < 0.01
    assert not (tmp_path / "keras_dense").exists()


@pytest.mark.slow
def test_a_loss_that_runs_away_is_one_clear_line_and_changes_no_file(tmp_path: Path) -> None:
    done = training("simple_nn", "--lr", 1e10, "--epochs", 50, "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "servepath train: simple_nn: the loss is inf at epoch 3; try a smaller --lr\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", read_models())
def test_weights_that_run_away_in_the_last_step_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(Diverged, match="a weight is not finite after epoch 1; try a smaller --lr"):
        stage.train(Run(name, 1, 3e38, 7), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--epochs", "0"),
        ("--epochs", "-1"),
        ("--epochs", "x"),
        ("--epochs", "1.5"),
        ("--epochs", "9" * 30),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--lr", "0"),
        ("--lr", "-0.1"),
        ("--lr", ""),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("no_such_model",),
        ("--no-such-option",),
    ],
)
def test_a_bad_value_is_one_clear_line_and_exit_code_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words[0].lstrip("-") in said


@pytest.mark.slow
def test_ctrl_c_ends_the_training_of_all_models_and_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "--epochs", "1000000", "--out", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith(b"Epoch 2,"):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=LONG_S) == 130
        assert process.stderr.read() == b""
    with pytest.raises(ProcessLookupError):  # nobody is left in its process group
        os.killpg(process.pid, 0)
    assert not any(tmp_path.glob("**/*.*"))


@pytest.mark.slow
def test_a_model_whose_training_is_killed_fails_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        found: list[psutil.Process] = []
        while not found:
            children = psutil.Process(process.pid).children()
            found = [child for child in children if "keras_dense" in child.cmdline()]
        found[0].kill()
        assert process.wait(LONG_S) == 128 + signal.SIGKILL
    assert not (tmp_path / "keras_dense" / "history.json").exists()


@pytest.mark.parametrize("module", ["training", "export"])
@pytest.mark.parametrize(
    ("folder", "spec", "said"),
    [
        ("all", "", "no model may be called 'all', which means every model"),
        ("broken", "framework =", "broken/spec.toml is not a model's spec"),
        ("strange", 'framework = "mxnet"', "strange/spec.toml is not a model's spec"),
    ],
)
def test_a_folder_that_is_no_model_is_one_line_before_anything_is_written(
    tmp_path: Path, module: str, folder: str, spec: str, said: str
) -> None:
    shutil.copytree(FOLDER, tmp_path / "models")
    (tmp_path / "models" / folder).mkdir()
    (tmp_path / "models" / folder / "spec.toml").write_text(spec)
    ended = subprocess.run(
        [sys.executable, "-m", module, "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert said in ended.stderr
    assert not (tmp_path / "out").exists()
