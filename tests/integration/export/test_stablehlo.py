"""StableHLO for TPUs, compiled and run on the CPU: faithful, the same each time, and one line where it cannot be."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import parity, trained
from export.errors import ExportError, ParityError
from export.formats import FORMATS, Format
from export.importing.__main__ import main
from export.stablehlo import exporter
from models.registry import read_models
from tests import stablehlo
from tests.limits import LONG_S
from tests.planted import answer, plant_weights
from tests.stablehlo import FILE

pytest.importorskip("jax", reason="the extra tpu is not installed")
BIAS = 0.5
X = np.array([[1, 2], [3, 4]], np.float32)
# The program of each platform alone, from one model: what is proven on the CPU is what a TPU gets.
BOTH = """
import sys, warnings
from pathlib import Path
from export import trained
from export.stablehlo import convert, file

warnings.simplefilter("ignore")
name, models, folder = sys.argv[1:]
found = trained.read(Path(models), name)
texts = []
for platform in file.PLATFORMS:
    file.save(convert.FUNCTIONS[found.model.framework](found), found.spec, Path(folder), (platform,))
    texts.append(file.read(Path(folder, file.FILE)).mlir_module())
print(texts[0] == texts[1], "precision = [HIGHEST, HIGHEST]" in texts[0], "f64" in texts[0])
"""
# Models of two inputs and two outputs, in every form: what each gives by name.
BY_NAME = """
import json, sys, warnings
from pathlib import Path
from tests import two_inputs
from export.stablehlo import convert, file

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
found = []
for form in ("Tuples", "Lists", "NamedTuples", "Dicts"):
    model = two_inputs.torch_model(getattr(two_inputs, form), folder)
    file.save(convert.from_torch(model), model.spec, folder)
    answer = file.load(folder)({"num": two_inputs.NUM, "flag": two_inputs.FLAG})
    found.append({name: values.tolist() for name, values in answer.items()})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in read_models():
        plant_weights(folder, name, BIAS)
    return folder


@pytest.fixture(scope="module")
def written(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives the folder that a model was written into, once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            facts = exporter.write(trained.read(models, name), made[name], 1)
            (made[name] / "facts.json").write_text(json.dumps(facts))
        return made[name]

    return folder


def python(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=LONG_S, check=False
    )


@pytest.mark.parametrize("name", read_models())
def test_a_model_is_within_its_tolerance_in_every_batch_and_says_what_it_is(
    models: Path, written: Callable[[str], Path], name: str
) -> None:
    found = parity.check(trained.read(models, name), "stablehlo", exporter.load(written(name)))
    assert found.batch_sizes == (1, 2, 7, 64)
    assert 0 < found.max_abs_difference < 1e-5
    facts = json.loads((written(name) / "facts.json").read_text())
    assert facts.pop("stablehlo").count(".") == 2
    assert int(facts.pop("jax_calling_convention")) >= 10
    assert facts == {"platforms": "cpu tpu", "matmul_precision": "highest"}


@pytest.mark.parametrize("kind", ["kernel", "bias"])
@pytest.mark.parametrize("name", read_models())
def test_another_weight_than_the_references_is_refused(
    models: Path, written: Callable[[str], Path], name: str, kind: str
) -> None:
    found = trained.read(models, name)
    (changed,) = (key for key, values in found.weights.items() if (values.size > 1) == (kind == "kernel"))
    weights = {key: values.copy() for key, values in found.weights.items()}
    weights[changed].flat[0] += 0.001
    largest = {"kernel": r"0\.01", "bias": r"0\.001"}[kind]  # inputs are up to 10
    with pytest.raises(ParityError, match=rf"{name} as stablehlo: the largest difference .* is {largest},"):
        parity.check(replace(found, weights=weights), "stablehlo", exporter.load(written(name)))


@pytest.mark.parametrize("name", read_models())
def test_a_model_is_the_same_bytes_from_another_process_and_names_no_path(
    models: Path, written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    exporter.write(trained.read(models, name), tmp_path, 1)
    content = (tmp_path / FILE).read_bytes()
    assert content == (written(name) / FILE).read_bytes()
    assert b"site-packages" not in content
    assert os.fsencode(Path.cwd()) not in content


def test_a_model_multiplies_in_float32_and_alike_on_every_platform(written: Callable[[str], Path]) -> None:
    for text in stablehlo.texts(*map(written, read_models())):
        (both,) = stablehlo.branches(text)
        assert both == [stablehlo.products(text)[:1]] * 2
        assert stablehlo.inexact(text) == []
        assert stablehlo.wide(text) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", read_models())
def test_a_tpu_gets_the_program_that_the_cpu_ran_in_float32(models: Path, tmp_path: Path, name: str) -> None:
    done = python("-c", BOTH, name, models, tmp_path)
    assert done.stdout == "True True False\n", done.stderr


@pytest.mark.slow
def test_a_pytorch_model_answers_by_name_in_whatever_form_it_is(tmp_path: Path) -> None:
    done = python("-c", BY_NAME, tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = {"zeta": [[7.0], [8.0], [-3.5]], "alpha": [[3.0], [-6.0], [-4.5]]}
    assert json.loads(done.stdout) == [wanted] * 4


def test_a_file_is_compiled_and_run_by_a_command(written: Callable[[str], Path]) -> None:
    done = python("-m", "export.stablehlo", written("simple_nn") / FILE, "1 2; 3 4")
    assert done.returncode == 0, done.stderr
    said, answered = done.stdout.splitlines()
    assert "for x [2, 2]" in said
    np.testing.assert_allclose(json.loads(answered)["y"], answer(X, BIAS), rtol=1e-5)


@pytest.mark.slow
def test_the_code_for_a_tpu_vm_runs_beside_a_file(written: Callable[[str], Path]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", Path("docs/tpu.md").read_text(), re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", code]
    folder = written("simple_nn")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 0, done.stderr
    numbers = [[float(number)] for number in re.findall(r"\[(-?[\d.]+)\]", done.stdout)]
    np.testing.assert_allclose(numbers, answer(X, BIAS), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("x=1 2 3",), 1, "1 rows of 3 are no 'x' of shape [batch, 2]"),
        (("y=1 2",), 1, "the file takes x: give each once, as NAME='1 2; 3 4'"),
        (("1;2 3",), 2, "argument X: '1;2 3' is not like '1 2', '1 2; 3 4' or x='1 2'"),
    ],
)
def test_a_request_that_a_file_cannot_take_is_one_clear_line(
    written: Callable[[str], Path], words: tuple[str, ...], code: int, said: str
) -> None:
    done = python("-m", "export.stablehlo", written("simple_nn") / FILE, *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"python -m export.stablehlo: {said}\n")


@pytest.mark.parametrize("content", [b"", b"no such thing" * 99])
def test_a_file_that_is_none_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ExportError, match=r"holds nothing that jax.export \S+ reads; run: make export$"):
        exporter.load(tmp_path)({"x": X})


def test_a_process_that_ends_before_it_reads_is_one_clear_line(tmp_path: Path) -> None:
    predict = exporter.asked(stablehlo.end_unread, tmp_path)
    for _ in range(2):  # as it ends, and when it has ended
        with pytest.raises(ExportError, match=r"the process that runs it ended with code 3$"):
            predict({"x": X})


def test_weights_that_cannot_be_read_are_one_clear_line(tmp_path: Path) -> None:
    plant_weights(tmp_path / "models", "simple_nn", BIAS)
    found = trained.read(tmp_path / "models", "simple_nn")
    found.path.unlink()
    with pytest.raises(ExportError, match=r"^simple_nn as StableHLO: \S+ is missing: .* run: make train; nothing was"):
        exporter.write(found, tmp_path, 1)


def test_a_format_is_left_out_only_where_its_extra_says_so() -> None:
    assert Format("module", ("numpy", "no-such-tool"), extra="tpu").missing() == ["no-such-tool"]
    assert Format("module", ("numpy", "no-such-tool")).missing() == []
    assert FORMATS["torch", "stablehlo"].missing() == []


# importlib.metadata as it answers where torchax is not installed.
WITHOUT = """
import importlib.metadata as metadata, runpy
known = metadata.version
def version(name):
    if name == "torchax":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
runpy.run_module("export", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_without_the_extra_export_writes_all_else_and_says_what_is_missing(models: Path, tmp_path: Path) -> None:
    words = ("simple_nn", "--models", models, "--out", tmp_path)
    done = python("-c", WITHOUT, *words)
    assert done.returncode == 0, done.stderr
    said = "simple_nn: not written as stablehlo: it needs torchax: pip install -c constraints.txt -e '.[tpu]'"
    assert done.stdout.splitlines()[-1] == said
    assert sorted(path.name for path in (tmp_path / "simple_nn").iterdir() if path.is_dir()) == [
        "mar",
        "onnx",
        "reference",
    ]
    # With it, the next version has all.
    assert python("-m", "export", *words).returncode == 0
    assert (tmp_path / "simple_nn" / "stablehlo" / "2" / FILE).is_file()


@pytest.mark.slow
def test_a_model_may_answer_float32_with_whole_numbers_of_64_bits(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415 - seconds, which the other tests need not wait for

    class Best(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"label": x.argmax(-1)}

    program = torch.export.export(Best(), (torch.randn(3, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, tmp_path / "best.pt2")
    words = [str(tmp_path / "best.pt2"), "--name", "m", "--out", str(tmp_path / "exports"), "--no-deploy"]
    assert main([*words, "--stablehlo"]) == 0
    predict = exporter.load(tmp_path / "exports" / "m" / "stablehlo" / "1")
    found = predict({"x": np.array([[1, 0, 0, 0], [0, 0, 2, 1]], np.float32)})["label"]
    assert (found.dtype, found.tolist()) == (np.int64, [0, 2])
