"""`servepath import --precision bf16`: a program of PyTorch's in bfloat16, its gate, and what TorchServe is given."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export import mar
from export.importing.__main__ import main
from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.spec import TensorSpec
from servepath.protocols.deployments_file import read_deployments
from services.torch_svc import model_store

AUTO = torch.export.Dim.AUTO
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, of TorchScript above all


class Masked(torch.nn.Module):  # type: ignore[misc]
    """y [batch, 8] and the position of its largest, of x [batch, 16]; it makes a mask whose dtype the graph names."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = torch.nn.Linear(16, 64), torch.nn.Linear(64, 8)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> Mapping[str, torch.Tensor]:
        mask = torch.ones(64, dtype=torch.float32).cumsum(0) > 8
        hidden = torch.relu(self.one(x)) + mask.to(torch.float32)
        return {"y": self.two(hidden) * self.scale}


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Import a file as `m` in bf16 and return what was printed."""

    def run(path: Path, spec: str = "") -> str:
        (tmp_path / "spec.toml").write_text(spec)
        words = [str(path), "--name", "m", "--out", str(tmp_path / "exports"), "--precision=bf16"]
        words += ["--deployments", str(tmp_path / "deployments.toml"), "--spec", str(tmp_path / "spec.toml")]
        assert main(words) == 0
        return "".join(capsys.readouterr())

    return run


def program(tmp_path: Path, model: torch.nn.Module) -> Path:
    exported = torch.export.export(model.eval(), (torch.randn(3, 16),), dynamic_shapes=({0: AUTO},))
    torch.export.save(exported, tmp_path / "m.pt2")
    return tmp_path / "m.pt2"


def unpacked(folder: Path, member: str) -> Any:
    with zipfile.ZipFile(folder / "m.mar") as archive, archive.open(member) as opened:
        return json.load(opened) if member.endswith(".json") else torch.export.load(opened)


def test_a_program_in_bfloat16_becomes_a_path_of_torchserve(tmp_path: Path, imported: Any) -> None:
    said = imported(program(tmp_path, Masked()))
    assert "mar-bf16: version 1 written, largest difference 0.0" in said
    deployments = read_deployments(tmp_path / "deployments.toml")
    assert list(deployments.models[0].names) == ["m", "m@torchserve", "m@onnx", "m@torchserve:bf16"]
    assert [stack.name for stack in deployments.own_stacks] == ["torchserve", "onnx"]
    folders = {each: tmp_path / "exports" / "m" / each / "1" for each in ("mar", "mar-bf16")}
    full, reduced = (read_manifest(folder).spec for folder in folders.values())
    assert [full.precision, reduced.precision] == ["fp32", "bf16"]
    assert unpacked(folders["mar-bf16"], "spec.json")["precision"] == "bf16"
    weights = unpacked(folders["mar-bf16"], "model.pt2").state_dict
    assert {values.dtype for values in weights.values()} == {torch.bfloat16}
    assert [(each.name, each.dtype, each.shape) for each in reduced.inputs + reduced.outputs] == [
        (each.name, each.dtype, each.shape) for each in full.inputs + full.outputs
    ]


def test_what_the_archive_answers_is_rounded_and_within_its_own_tolerance(tmp_path: Path, imported: Any) -> None:
    imported(program(tmp_path, Masked()))
    folder = tmp_path / "exports" / "m"
    x = np.random.default_rng(1).uniform(-1, 1, (5, 16)).astype(np.float32)
    answers = {each: mar.load(folder / each / "1")({"x": x})["y"] for each in ("mar", "mar-bf16")}
    assert {each.dtype for each in answers.values()} == {np.dtype(np.float32)}
    off = np.abs(answers["mar"] - answers["mar-bf16"]).max()
    tolerance = read_manifest(folder / "mar-bf16" / "1").spec.tolerance_of(TensorSpec("y", "FP32", ("batch", 8)))
    assert 1e-4 < off <= tolerance.atol


def test_what_costs_more_than_the_gate_allows_is_no_path(tmp_path: Path, imported: Any) -> None:
    said = imported(program(tmp_path, Masked()), "[gate]\ncosine = 0.99999999\n")
    assert "no path on torchserve:bf16: the least cosine of an answer and its reference is" in said
    assert not (tmp_path / "exports" / "m" / "mar-bf16").exists()


def test_a_program_that_cannot_be_in_bfloat16_keeps_its_other_paths(tmp_path: Path, imported: Any) -> None:
    class Inverse(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(torch.diag_embed(x + 20.0))

    said = imported(program(tmp_path, Inverse()))
    assert "no path on torchserve:bf16: torch.export cannot export it" in said
    assert "mar: version 1 written" in said


def test_torchscript_has_no_path_in_bfloat16(tmp_path: Path, imported: Any) -> None:
    torch.jit.script(torch.nn.Linear(16, 8)).save(str(tmp_path / "m.pt"))
    said = imported(tmp_path / "m.pt", '[inputs]\ninput = { dtype = "FP32", shape = ["batch", 16] }\n')
    assert "no path on torchserve:bf16: bf16 needs a program of torch.export" in said


def test_torchserve_is_given_both_archives_under_names_of_their_own(tmp_path: Path, imported: Any) -> None:
    imported(program(tmp_path, Masked()))
    (tmp_path / "store").mkdir()
    found = model_store.fill(tmp_path / "exports", tmp_path / "store")
    assert {name: manifest.spec.precision for name, manifest in found.items()} == {
        "m": "fp32",
        "m@torchserve:bf16": "bf16",
    }
    assert sorted(each.name for each in (tmp_path / "store").iterdir()) == ["m.mar", "m@torchserve:bf16.mar"]
