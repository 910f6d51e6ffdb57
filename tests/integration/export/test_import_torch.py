"""Models of PyTorch: what is read, under which names, what runs no code, and what an archive answers."""

import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from export import mar
from export.importing import hugging_face, torch_module, torch_source, torch_to_onnx
from export.importing.__main__ import main
from export.importing.axes import Declared
from export.importing.compare import compare
from export.importing.errors import Refused
from export.importing.hints import Hints, read_hints
from export.importing.onnx_source import load as load_onnx
from export.importing.prove import Proof
from export.importing.torch_files import torch_kind
from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.spec import Spec, TensorSpec

AUTO = torch.export.Dim.AUTO
X = TensorSpec("", "FP32", ("batch", 4))
ONE = torch.ones(1)
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, of TorchScript above all


class Two(NamedTuple):
    """Results with names."""

    best: torch.Tensor
    second: torch.Tensor


class Net(torch.nn.Module):  # type: ignore[misc]
    """y [batch, length, 3] and its sums, of x [batch, length, 4] and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> Mapping[str, torch.Tensor]:
        y = self.linear(x) * scale
        return {"y": y, "total": y.sum(-1)}


class Loop(torch.nn.Module):  # type: ignore[misc]
    """TorchScript with what no trace keeps: a condition and a loop on a number."""

    def forward(self, x: torch.Tensor, times: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = x
        if times > 2:
            y = y * 2
        for _ in range(times):
            y = y + 1
        return y, y.sum(1)


class Outer(torch.nn.Module):  # type: ignore[misc]
    """A module with one in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x) + self.calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for what is written."""
    (tmp_path / "written").mkdir()
    return tmp_path / "written"


def program(path: Path, model: torch.nn.Module, *examples: Any, axes: Any = None, **named: Any) -> Path:
    """Write the exported program of a model."""
    torch.export.save(torch.export.export(model.eval(), examples, named, dynamic_shapes=axes), path)
    return path


def net(path: Path) -> Path:
    examples = torch.randn(3, 5, 4), torch.randn(3, 1, 1)
    return program(path / "net.pt2", Net(), *examples, axes=({0: AUTO, 1: AUTO}, {0: AUTO}))


def shapes(spec: Spec) -> dict[str, tuple[int | str, ...]]:
    return {tensor.name: tensor.shape for tensor in spec.inputs + spec.outputs}


def answers(folder: Path, proof: Proof) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    return torch_source.load(folder, "m", proof.spec)


def rewritten(path: Path, **members: Callable[[bytes], bytes]) -> Path:
    """Write an archive again with some members changed, by the last part of their name without its suffix."""
    content = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            change = members.get(Path(name).stem)
            content[name] = change(archive.read(name)) if change else archive.read(name)
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each)
    return path


def test_a_program_keeps_its_open_axes_and_the_names_of_its_results(tmp_path: Path, folder: Path) -> None:
    proof, _ = torch_source.import_program(net(tmp_path), folder, Hints())
    assert shapes(proof.spec) == {
        "x": ("batch", "x_1", 4),
        "scale": ("batch", 1, 1),
        "y": ("batch", "x_1", 3),
        "total": ("batch", "x_1"),
    }
    assert proof.spec.row_independent


class Placed(torch.nn.Module):  # type: ignore[misc]
    """x [batch, length, 4] with a weight for each of at most 12 places."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Parameter(torch.randn(12, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.places[: x.shape[1]]


@pytest.mark.parametrize("most", [40, 4])
def test_an_axis_has_the_largest_size_that_the_program_asserts(tmp_path: Path, folder: Path, most: int) -> None:
    rows = torch.export.Dim("rows", max=most)
    path = program(tmp_path / "p.pt2", Placed(), torch.randn(3, 5, 4), axes=({0: rows, 1: AUTO},))
    proof, _ = torch_source.import_program(path, folder, Hints(names={"x": "words"}))
    assert proof.spec.inputs[0].shape == ("batch", "x_1", 4)
    assert proof.spec.max_sizes == {"batch": most, "x_1": 12}
    assert proof.spec.row_independent  # though a batch of 64 rows cannot be tried
    assert proof.spec.max_rows(64) == most
    assert compare(proof, answers(folder, proof)) < 1e-5
    assert Spec.from_dict(proof.spec.to_dict()) == proof.spec


def test_the_reference_of_a_program_is_the_program_in_float64(tmp_path: Path, folder: Path) -> None:
    proof, _ = torch_source.import_program(net(tmp_path), folder, Hints())
    assert "the reference is the model in float64" in proof.notes
    for group in proof.groups:
        assert group["x"].dtype == np.float32
        assert group["y"].dtype == np.float64
        np.testing.assert_allclose(group["y"].sum(-1), group["total"], rtol=1e-13)


def test_a_program_that_fixes_its_precision_has_a_reference_in_that(tmp_path: Path, folder: Path) -> None:
    class Half(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x.float(), self.weight.float(), self.bias.float())

    path = program(tmp_path / "p.pt2", Half(4, 2), torch.ones(3, 4, dtype=torch.float64), axes=({0: AUTO},))
    proof, _ = torch_source.import_program(path, folder, Hints())
    assert "the reference is the model in float64" not in proof.notes
    assert proof.groups[0]["output"].dtype == np.float32


def test_a_program_of_half_says_so_in_every_reply(tmp_path: Path, folder: Path) -> None:
    path = program(tmp_path / "p.pt2", torch.nn.Linear(4, 2).half(), torch.ones(3, 4).half(), axes=({0: AUTO},))
    proof, _ = torch_source.import_program(path, folder, Hints())
    assert proof.spec.precision == "fp16"
    (tmp_path / "packed").mkdir()
    mar.pack("m", 1, proof.spec, sorted(folder.iterdir()), tmp_path / "packed")
    with zipfile.ZipFile(tmp_path / "packed" / "m.mar") as archive:
        assert json.loads(archive.read("spec.json"))["precision"] == "fp16"


def test_the_archive_of_a_program_answers_requests_of_several_shapes_in_one_batch(tmp_path: Path, folder: Path) -> None:
    proof, _ = torch_source.import_program(net(tmp_path), folder, Hints())
    run = answers(folder, proof)
    for rows, length in ((1, 2), (4, 1), (3, 9)):
        asked = {"x": np.ones((rows, length, 4), np.float32), "scale": np.full((rows, 1, 1), 2, np.float32)}
        found = run(asked)
        assert (found["y"].shape, found["total"].shape) == ((rows, length, 3), (rows, length))
        np.testing.assert_allclose(found["y"].sum(-1), found["total"], rtol=1e-5)


def test_a_program_becomes_onnx_under_its_public_names(tmp_path: Path, folder: Path) -> None:
    proof, _ = torch_source.import_program(net(tmp_path), folder, Hints(names={"y": "scaled", "x": "rows"}))
    (tmp_path / "onnx").mkdir()
    torch_to_onnx.convert(folder, tmp_path / "onnx", proof)
    found = load_onnx(tmp_path / "onnx")({name: proof.groups[0][name] for name in ("rows", "scale")})
    np.testing.assert_allclose(found["scaled"], proof.groups[0]["scaled"], rtol=1e-4, atol=1e-5)


def test_what_was_no_tensor_when_a_program_was_exported_is_part_of_it(tmp_path: Path, folder: Path) -> None:
    class Optional(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, bias: Any = None, times: int = 1, more: Any = None) -> torch.Tensor:
            y = x * times if bias is None else x + bias
            return y if more is None else y + more["a"]

    path = program(
        tmp_path / "p.pt2", Optional(), torch.ones(2, 2), None, 3, {"a": ONE}, axes=({0: AUTO}, None, None, {"a": None})
    )
    proof, _ = torch_source.import_program(path, folder, Hints())
    assert shapes(proof.spec) == {"x": ("x_0", 2), "more_a": (1,), "output": ("x_0", 2)}
    found = answers(folder, proof)({"x": np.ones((1, 2), np.float32), "more_a": np.full(1, 4, np.float32)})
    assert found["output"].tolist() == [[7, 7]]


def test_a_program_of_one_size_is_never_batched(tmp_path: Path, folder: Path) -> None:
    proof, _ = torch_source.import_program(
        program(tmp_path / "p.pt2", torch.nn.Linear(4, 2), torch.ones(3, 4)), folder, Hints()
    )
    assert (shapes(proof.spec)["input"], proof.spec.row_independent) == ((3, 4), False)


@pytest.mark.parametrize("results", [[ONE, [ONE, {"a": ONE}]], (ONE, (ONE, {"a": ONE}))])
def test_results_without_names_are_numbered_where_they_stand(results: Any) -> None:
    assert list(torch_source.named(results)) == ["output_0", "output_1_0", "output_1_1_a"]


def test_a_named_tuple_names_its_results() -> None:
    assert list(torch_source.named(Two(ONE, ONE))) == ["best", "second"]


def test_a_result_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(Refused, match="output 'n' is no tensor but a int"):
        torch_source.named({"y": ONE, "n": 3})


class Mark:
    """Writes a file when it is unpickled: what must not happen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled(mark: Mark) -> bytes:
    buffer = io.BytesIO()
    torch.save(mark, buffer)
    return buffer.getvalue()


def test_example_inputs_that_would_run_code_are_refused_and_do_not_run(tmp_path: Path, folder: Path) -> None:
    path, marked = net(tmp_path), tmp_path / "ran"
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("data/sample_inputs/model.pt") for name in archive.namelist())
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, pickled(Mark(marked)) if "sample_inputs" in name else each)
    with pytest.raises(Refused, match="has example inputs that are no tensors"):
        torch_source.import_program(path, folder, Hints())
    assert not marked.exists()


def with_pickled_weight(content: bytes) -> bytes:
    config = json.loads(content)
    for entry in config["config"].values():
        entry["use_pickle"] = True
    return json.dumps(config).encode()


def test_pickled_weights_in_a_program_are_refused(tmp_path: Path, folder: Path) -> None:
    path = rewritten(net(tmp_path), model_weights_config=with_pickled_weight)
    with pytest.raises(Refused, match="holds pickled Python objects"):
        torch_source.import_program(path, folder, Hints())


@pytest.mark.parametrize(
    "target", ["torch.hub.list", "torch.ops.mine.linear.default", "torch.ops.aten.from_file.default"]
)
def test_functions_that_are_no_operators_are_refused(tmp_path: Path, folder: Path, target: str) -> None:
    with zipfile.ZipFile(net(tmp_path)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each.replace(b"torch.ops.aten.linear.default", target.encode()))
    with pytest.raises(Refused, match=f"calls '{target}'"):
        torch_source.import_program(tmp_path / "net.pt2", folder, Hints())


def changed_program(path: Path, old: bytes, new: bytes) -> Path:
    """Write a program again with other text in its description."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert any(old in each for name, each in content.items() if "/models/" in name)
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each.replace(old, new) if "/models/" in name else each)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"L['x'].size()[0] ==", b"L['x'].unknown()[0] =="),
        (b"L['x'].size()[0] ==", b"__name__ and L['x'].size()[0] =="),
        (b"Symbol('s77'", b"Symbol('s77 + 1'"),
        (b"Symbol('s77'", b"symbol('s77'"),
    ],
)
def test_text_that_is_evaluated_must_be_arithmetic_on_sizes(
    tmp_path: Path, folder: Path, old: bytes, new: bytes
) -> None:
    with pytest.raises(Refused, match="where a size or a guard should be"):
        torch_source.import_program(changed_program(net(tmp_path), old, new), folder, Hints())


def test_an_archive_with_two_files_of_one_name_is_refused(tmp_path: Path) -> None:
    path = net(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(Refused, match="two files of one name"):
        torch_kind(path)


def test_a_program_that_is_cut_inside_is_refused(tmp_path: Path, folder: Path) -> None:
    path = rewritten(net(tmp_path), model_weights_config=lambda content: content[:40])
    with pytest.raises(Refused, match=r"is no program of torch\.export, or is cut off"):
        torch_source.import_program(path, folder, Hints())


@pytest.mark.parametrize("name", ["a#1", "a\nb", "__metadata__"])
def test_outputs_that_nothing_could_be_called_are_refused(tmp_path: Path, folder: Path, name: str) -> None:
    class Named(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> Mapping[str, torch.Tensor]:
            return {name: super().forward(x)}

    path = program(tmp_path / "p.pt2", Named(4, 2), torch.ones(3, 4), axes=({0: AUTO},))
    with pytest.raises(Refused, match="no tensor can be called"):
        torch_source.import_program(path, folder, Hints())


@pytest.mark.parametrize(("results", "name"), [({"a_b": ONE, "a": {"b": ONE}}, "a_b"), ({1: ONE, "1": ONE}, "1")])
def test_two_outputs_of_one_name_are_refused(results: Any, name: str) -> None:
    with pytest.raises(Refused, match=f"two outputs would be called '{name}'"):
        torch_source.named(results)


def test_a_parameter_may_be_an_output(tmp_path: Path, folder: Path) -> None:
    class Own(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> Mapping[str, torch.Tensor]:
            return {"y": super().forward(x), "weight": self.weight}

    path = program(tmp_path / "p.pt2", Own(4, 2), torch.ones(3, 4), axes=({0: AUTO},))
    proof, _ = torch_source.import_program(path, folder, Hints())
    assert shapes(proof.spec)["weight"] == (2, 4)
    assert answers(folder, proof)({"x": np.ones((1, 4), np.float32)})["weight"].shape == (2, 4)


def script(path: Path, model: torch.nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model.eval()).save(str(path))
    return path


def test_a_torchscript_file_keeps_conditions_and_loops_on_a_number(tmp_path: Path, folder: Path) -> None:
    hints = Hints(inputs={"x": X}, ranges={"times": (0, 5)}, names={"output_0": "y"})
    proof, _ = torch_source.import_script(script(tmp_path / "s.pt", Loop()), folder, hints)
    assert shapes(proof.spec)["times"] == ()
    run = answers(folder, proof)
    found = [run({"x": np.ones((2, 4), np.float32), "times": np.array(n)})["y"][0, 0] for n in (0, 2, 3)]
    assert found == [1, 3, 5]
    (tmp_path / "onnx").mkdir()
    torch_to_onnx.convert(folder, tmp_path / "onnx", proof)
    run = load_onnx(tmp_path / "onnx")
    assert [run({"x": np.ones((2, 4), np.float32), "times": np.array(n)})["y"][0, 0] for n in (0, 2, 3)] == found


def test_a_torchscript_file_does_not_say_what_its_inputs_are(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(Refused, match=r"forward takes x \(Tensor\), times \(int\); say them in a spec file"):
        torch_source.import_script(script(tmp_path / "s.pt", Loop()), folder, Hints())


def test_a_torchscript_module_that_keeps_state_is_refused_and_its_part_is_not(tmp_path: Path, folder: Path) -> None:
    path = script(tmp_path / "s.pt", Outer())
    with pytest.raises(Refused, match="the same request twice gets two answers"):
        torch_source.import_script(path, folder, Hints(inputs={"x": X}))
    proof, _ = torch_source.import_script(path, folder, Hints(inputs={"input": X}, part="inner"))
    assert proof.spec.row_independent
    with pytest.raises(Refused, match=r"the part 'other'; the module's are inner"):
        torch_source.import_script(path, folder, Hints(inputs={"x": X}, part="other"))


@pytest.mark.parametrize(
    ("code", "said"), [("torch.save(x, 'f')", "calls torch.save, which"), ("ops.mine.f(x)", "wants operators 'mine'")]
)
def test_torchscript_that_writes_files_or_wants_foreign_operators_is_refused(
    tmp_path: Path, folder: Path, code: str, said: str
) -> None:
    path = script(tmp_path / "s.pt", torch.nn.Linear(4, 2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("s/code/more.py", f"def f(x):\n  return {code}\n")
    with pytest.raises(Refused, match=said):
        torch_source.import_script(path, folder, Hints(inputs={"input": X}))


NET = """
import torch
from layer import SIZE


class Block(torch.nn.Linear):
    def __init__(self):
        super().__init__(SIZE, 2)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Return a Python file with two classes, and weights beside it."""
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "layer.py").write_text("SIZE = 4\n")
    sys.modules.pop("layer", None)  # of another test
    weights = {"block.weight": torch.ones(2, 4), "block.bias": torch.zeros(2)}
    safetensors.torch.save_file(weights, tmp_path / "my_net.safetensors")
    return tmp_path / "my_net.py"


def test_a_class_with_weights_becomes_a_program(module: Path, folder: Path, tmp_path: Path) -> None:
    hints = Hints(inputs={"x": X}, class_name="Net")
    model, files = torch_module.read_module(module, hints)
    assert files == [module, module.parent / "layer.py", module.with_suffix(".safetensors")]
    torch_module.export(model, torch_module.module_inputs(hints), hints, tmp_path / "m.pt2")
    inputs = torch_module.module_inputs(hints)
    proof, _ = torch_source.import_program(tmp_path / "m.pt2", folder, hints, (), inputs)
    assert shapes(proof.spec) == {"x": ("batch", 4), "output": ("batch", 2)}
    assert answers(folder, proof)({"x": np.ones((2, 4), np.float32)})["output"].tolist() == [[4, 4], [4, 4]]
    assert str(module.parent) not in (tmp_path / "m.pt2").read_bytes().decode(errors="replace")


@pytest.mark.parametrize(
    ("hints", "said"),
    [
        (Hints(), r"has the module classes Block, Net: say which"),
        (Hints(class_name="Other"), "has no class or function 'Other'; it has Block, Net"),
        (Hints(class_name="Block"), "does not hold the weights of my_net.py"),
        (Hints(class_name="Net", weights=Path("none.safetensors")), "none.safetensors does not exist"),
    ],
)
def test_a_file_that_does_not_make_one_model_is_refused(module: Path, hints: Hints, said: str) -> None:
    with pytest.raises(Refused, match=said):
        torch_module.read_module(module, hints)


TIED = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 4)
        self.head = torch.nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))
"""


@pytest.mark.parametrize("names", [["embedding.weight"], ["head.weight"], ["embedding.weight", "head.weight"]])
def test_weights_that_are_tied_may_have_one_name_in_the_file(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "tied.py"
    path.write_text(TIED)
    table = torch.arange(36.0).reshape(9, 4)
    weights = path.with_suffix(".safetensors")
    safetensors.torch.save_file({name: table.clone() for name in names}, weights)
    imported, _ = torch_module.read_module(path, Hints())
    for model in (imported, mar.handler_module().load_model(path, weights)):
        assert model.head.weight is model.embedding.weight
        assert torch.equal(model.head.weight, table)


def test_a_class_without_weights_is_refused(module: Path) -> None:
    module.with_suffix(".safetensors").unlink()
    with pytest.raises(Refused, match=r"has no \.safetensors file beside it"):
        torch_module.read_module(module, Hints(class_name="Net"))


@pytest.mark.parametrize(
    ("inputs", "said"), [({}, "does not say dtypes and shapes"), ({"z": X}, r"names z; forward takes x")]
)
def test_inputs_that_forward_does_not_take_are_refused(
    module: Path, tmp_path: Path, inputs: Mapping[str, TensorSpec], said: str
) -> None:
    hints = Hints(inputs=inputs, class_name="Net")
    model, _ = torch_module.read_module(module, hints)
    with pytest.raises(Refused, match=said):
        torch_module.export(model, torch_module.module_inputs(hints), hints, tmp_path / "m.pt2")


def test_a_pickle_runs_only_where_its_code_is_trusted(tmp_path: Path) -> None:
    path, marked = tmp_path / "m.pt", tmp_path / "ran"
    torch.save(Mark(marked), path)
    assert torch_kind(path) == "pickle"
    with pytest.raises(Refused, match="is a pickle of Python objects, which can run code"):
        torch_module.read_pickle(path, Hints())
    assert not marked.exists()
    with pytest.raises(Refused, match="holds a NoneType"):
        torch_module.read_pickle(path, Hints(trust_code=True))
    assert marked.exists()


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(Refused, match="holds weights without their model"):
        torch_module.read_pickle(tmp_path / "w.pth", Hints())


def test_trusted_code_is_recorded(module: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[inputs]\nx = { dtype = "FP32", shape = ["batch", 4] }\n[torch]\nclass = "Net"\n')
    assert read_hints(spec).inputs["x"].shape == ("batch", 4)
    words = [str(module), "--name", "m", "--spec", str(spec), "--out", str(tmp_path / "out")]
    assert main([*words, "--deployments", str(tmp_path / "d.toml"), "--trust-code"]) == 0
    found = {kind: read_manifest(tmp_path / "out" / "m" / kind / "1") for kind in ("mar", "onnx")}
    assert {kind: manifest.tools["code"] for kind, manifest in found.items()} == {"mar": "trusted", "onnx": "trusted"}
    served = mar.load(tmp_path / "out" / "m" / "mar" / "1")
    assert served({"x": np.ones((3, 4), np.float32)})["output"].tolist() == [[4, 4]] * 3


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as transformers writes it, of a tiny encoder with random weights."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_a_hugging_face_folder_becomes_a_program(bert: Path, folder: Path, tmp_path: Path) -> None:
    found = hugging_face.export(bert, tmp_path / "m.pt2", Hints(sizes={"length": [6, 3, 9]}))
    assert found.hints.ranges["input_ids"] == (0, 49)
    assert [file.name for file in found.files] == ["config.json", "model.safetensors"]
    assert (found.text, found.note) == (None, "")
    proof, _ = torch_source.import_program(tmp_path / "m.pt2", folder, found.hints, (), found.inputs)
    assert shapes(proof.spec) == {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ("batch", "length")),
        "last_hidden_state": ("batch", "length", 8),
        "pooler_output": ("batch", 8),
    }
    assert proof.spec.row_independent
    assert proof.spec.max_sizes == {"length": 512}
    assert any("'attention_mask' was drawn as ones, then zeros" in note for note in proof.notes)
    assert all(group["attention_mask"][:, 0].all() for group in proof.groups)


@pytest.mark.parametrize(("said", "most", "sizes"), [(64, 64, (32, 3)), (600, 512, (32, 3, 128))])
def test_the_lengths_of_a_hugging_face_folder_are_within_the_users_limit_and_its_own(
    bert: Path, tmp_path: Path, said: int, most: int, sizes: tuple[int, ...]
) -> None:
    found = hugging_face.export(bert, tmp_path / "m.pt2", Hints(max_sizes={"length": said}))
    assert found.hints.max_sizes == {"length": most}
    assert found.hints.sizes == {"length": sizes}


def test_a_robertas_positions_up_to_the_paddings_are_not_for_tokens(tmp_path: Path, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.RobertaConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=18,
        pad_token_id=1,
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path / "roberta")
    found = hugging_face.export(tmp_path / "roberta", tmp_path / "m.pt2", Hints(sizes={"length": [6, 3, 16]}))
    assert found.hints.max_sizes == {"length": 16}
    proof, _ = torch_source.import_program(tmp_path / "m.pt2", folder, found.hints, (), found.inputs)
    assert proof.spec.max_sizes == {"length": 16}
    assert max(group["input_ids"].shape[1] for group in proof.groups) == 16


def changed(bert: Path, tmp_path: Path, **config: Any) -> Path:
    """Return a copy of a folder with another config."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    raw = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(raw))
    return copy


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["Mine"], "auto_map": {"AutoModel": "mine.Mine"}}, "code in the folder is not run"),
        ({"num_hidden_layers": 2}, r"lacks \d+ weights of BertModel, such as encoder\.layer\.1"),
        ({"model_type": None}, "names no model_type"),
    ],
)
def test_a_folder_that_is_not_all_of_a_model_is_refused(
    bert: Path, tmp_path: Path, config: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        hugging_face.export(changed(bert, tmp_path, **config), tmp_path / "m.pt2", Hints())


def test_a_folder_with_pickled_weights_alone_is_refused(bert: Path, tmp_path: Path) -> None:
    copy = changed(bert, tmp_path)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"no \.safetensors file: its weights are a pickle"):
        hugging_face.export(copy, tmp_path / "m.pt2", Hints())


def test_a_declared_axis_has_its_name_only_where_the_program_keeps_it_open(tmp_path: Path, folder: Path) -> None:
    path = program(tmp_path / "p.pt2", torch.nn.Linear(4, 2), torch.ones(3, 5, 4), axes=({0: AUTO},))
    declared = [Declared("rows", "FP32", ("batch", "length", 4))]
    hints = Hints(sizes={"length": (32, 3)}, max_sizes={"length": 64, "batch": 40})
    proof, _ = torch_source.import_program(path, folder, hints, (), declared)
    assert shapes(proof.spec) == {"rows": ("batch", 5, 4), "output": ("batch", 5, 2)}
    assert proof.spec.max_sizes == {"batch": 40}
    assert proof.notes[0] == "axis 'length' is declared open and the program has it at 5 alone"


def test_a_number_with_a_default_is_no_input_unless_something_behind_it_is(tmp_path: Path, folder: Path) -> None:
    class Defaults(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, times: int = 3) -> torch.Tensor:
            return x * times if mask is None else x * mask

    path = script(tmp_path / "s.pt", Defaults())
    proof, _ = torch_source.import_script(path, folder, Hints(inputs={"x": X}))
    assert list(shapes(proof.spec)) == ["x", "output"]


def test_a_file_that_ends_the_process_is_one_line(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module.write_text("import sys\nsys.exit(0)\n")
    assert main([str(module), "--name", "m", "--out", str(tmp_path / "out"), "--deployments", str(tmp_path / "d")]) == 1
    assert "the model's own code ends the process (exit code 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said", ["print('loading')", "print('loading', end='')", "import ctypes; ctypes.CDLL(None).puts(b'loading')"]
)
def test_what_a_model_prints_does_not_stand_for_why_it_is_refused(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    module.write_text(f"{said}\nraise ValueError('no such size')\n")
    assert main([str(module), "--name", "m", "--out", str(tmp_path / "out"), "--deployments", str(tmp_path / "d")]) == 1
    assert capsys.readouterr().err == ("servepath import: my_net.py does not make a model: ValueError: no such size\n")
