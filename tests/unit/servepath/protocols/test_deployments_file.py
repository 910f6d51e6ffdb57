import re
from pathlib import Path

import pytest

from servepath.artifacts.spec import EXACT, Spec, TensorSpec
from servepath.protocols.deployments import DeploymentsError, GatewayLimits, Promote, Shadow
from servepath.protocols.deployments_file import read_deployments, read_gateway_limits
from servepath.protocols.external import ExternalModel
from servepath.protocols.stacks import PATH_STACKS, STACKS
from servepath.routes import main as routes

GOOD = """\
[gateway]
drain_s = 3

[models.m]
default = "onnx"

[models.m.stacks.onnx]
max_queue = 5
[models.m.stacks.torchserve]
"""


def read(tmp_path: Path, text: str) -> str:
    """Return the error's text, less the folder."""
    path = tmp_path / "deployments.toml"
    path.write_text(text)
    with pytest.raises(DeploymentsError) as caught:
        read_deployments(path)
    return str(caught.value).removeprefix(f"{tmp_path}/")


def test_a_good_file_gives_models_stacks_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(GOOD)
    deployments = read_deployments(path)
    (model,) = deployments.models
    assert deployments.gateway.drain_s == 3
    assert model.names == {"m": "onnx", "m@onnx": "onnx", "m@torchserve": "torchserve"}
    assert (model.stacks["onnx"].max_queue, model.stacks["onnx"].max_in_flight) == (5, 2)


def test_the_stacks_that_have_paths_are_those_whose_servers_run(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(GOOD)
    assert [stack.service for stack in read_deployments(path).own_stacks] == ["torch_svc", "onnx_svc"]


def test_the_repositorys_own_file_lists_the_four_paths() -> None:
    names = [name for model in read_deployments(Path("deployments.toml")).models for name in model.names if "@" in name]
    assert {"simple_nn@torchserve", "simple_nn@onnx", "keras_dense@tfserving", "keras_dense@onnx"} <= set(names)


def test_the_repositorys_own_limits_stay_below_what_the_servers_refuse() -> None:
    paths = [path for model in read_deployments(Path("deployments.toml")).models for path in model.stacks.items()]
    # TorchServe's job_queue_size and tf_svc's max_calls, by default; onnx_svc queues by itself.
    most = {"torchserve": 99, "tfserving": 299, "onnx": 1024}
    assert all(limits.max_in_flight <= most[stack] for stack, limits in paths)
    assert all(limits.max_merge_bytes < limits.max_message_bytes for _, limits in paths)


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ("drain_s", "drian_s", 2, "unknown key 'drian_s' in [gateway]; did you mean 'drain_s'?"),
        ("drain_s = 3", "drain_s = -3", 2, "drain_s must be a number above 0, got -3"),
        ("drain_s = 3", "drain_s = inf", 2, "drain_s must be a number above 0, got inf"),
        ("drain_s = 3", "default_deadline_s = 121", 2, "default_deadline_s is 121, above max_deadline_s 120"),
        ("drain_s = 3", "max_message_bytes = 3_000_000_000", 2, "must be at most 2147483647, got 3000000000"),
        ("drain_s = 3", "max_tensors = 257", 2, "max_tensors must be at most 256, got 257"),
        ("drain_s = 3", "max_rank = 33", 2, "max_rank must be at most 32, got 33"),
        ("drain_s = 3", "max_elements = 268_435_457", 2, "max_elements must be at most 268435456, got 268435457"),
        ("max_queue = 5", "max_queue = 5.5", 8, "max_queue must be a whole number above 0, got 5.5"),
        ("max_queue = 5", "max_queue = true", 8, "max_queue must be a whole number above 0, got True"),
        ("max_queue = 5", "max_que = 5", 8, "did you mean 'max_queue'?"),
        ("max_queue = 5", "hedge_percent = 6", 8, "hedge_percent must be at most 5, got 6"),
        ("max_queue = 5", "hedge_percent = -1", 8, "hedge_percent must be a whole number of 0 or more, got -1"),
        ("max_queue = 5", "hedge_percent = 0.5", 8, "hedge_percent must be a whole number of 0 or more, got 0.5"),
        ("max_queue = 5", "hedge_percent = true", 8, "hedge_percent must be a whole number of 0 or more, got True"),
        ('"onnx"', '"onyx"', 5, "default must be one of ['onnx', 'torchserve'], got 'onyx'"),
        ('default = "onnx"', "", 4, "default must be one of ['onnx', 'torchserve'], got None"),
        ("stacks.torchserve", "stacks.torchsrve", 9, "did you mean 'torchserve'?"),
        ("[gateway]", "[gatway]", 1, "unknown key 'gatway' at the top; did you mean 'gateway'?"),
        ("[gateway]", "[gateway", 1, "is not TOML"),
        ("models.m", 'models."m@x"', 4, "'m@x' is no model's name: letters"),
        ("models.m", "models.liveness", 4, "no model may be called 'liveness', which means the gateway's own health"),
        ("models.m", "models.null", 4, "no model may be called 'null', which means the load test's no-op server"),
    ],
)
def test_a_mistake_names_its_line_and_key(tmp_path: Path, good: str, bad: str, line: int, says: str) -> None:
    text = read(tmp_path, GOOD.replace(good, bad))
    assert f"line {line}" in text
    assert says in text


@pytest.mark.parametrize("text", ["", "[models]", "models = 3", "[models.m]\ndefault = 'onnx'"])
def test_a_file_without_a_path_is_refused(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).startswith("deployments.toml, line ")


def test_a_missing_file_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(DeploymentsError, match=r"is missing; give the list of paths, as docs/add-a-path\.md has it"):
        read_deployments(tmp_path / "none.toml")


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentsError, match=rf"{tmp_path} cannot be read: Is a directory"):
        read_deployments(tmp_path)


EXTERNAL = """\
[servers.theirs]
protocol = "oip"
[servers.other-one]
protocol = "oip"
contents = "typed"

[models.m]
default = "onnx"
[models.m.stacks.onnx]
[models.m.stacks.theirs]
max_queue = 7
name = "m-v2"
version = "2"
precision = "bf16"
inputs = { x = "input-0" }
[models.m.stacks.other-one]
max_merge_rows = 8
"""


def test_an_external_server_is_a_stack_of_the_models_that_are_on_it(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(EXTERNAL)
    deployments = read_deployments(path)
    (model,) = deployments.models
    assert list(model.names) == ["m", "m@onnx", "m@theirs", "m@other-one"]
    assert deployments.external == {
        ("m", "theirs"): ExternalModel("m-v2", "2", {"x": "input-0"}, precision="bf16"),
        ("m", "other-one"): ExternalModel("m", typed=True),
    }
    stacks = deployments.servers
    assert stacks.keys() == STACKS.keys() | {"theirs", "other-one"}
    assert deployments.stacks == PATH_STACKS | stacks
    assert [stacks[name].address_variable for name in ("theirs", "other-one")] == ["THEIRS_ADDR", "OTHER_ONE_ADDR"]


def test_nothing_is_merged_for_an_external_server_unless_the_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(EXTERNAL)
    limits = read_deployments(path).paths
    assert (limits["m", "theirs"].max_merge_rows, limits["m", "theirs"].max_in_flight) == (1, 32)
    assert limits["m", "theirs"].max_queue == 7
    assert limits["m", "other-one"].max_merge_rows == 8
    assert limits["m", "onnx"].max_merge_rows == 64


def test_a_server_that_no_model_is_on_is_no_stack(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(GOOD + '[servers.theirs]\nprotocol = "oip"\n')
    assert read_deployments(path).servers == dict(STACKS)


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ('protocol = "oip"', 'protocol = "rest"', 2, "protocol in [servers.theirs] must be \"oip\", got 'rest'"),
        ('protocol = "oip"\n[s', "[s", 1, 'protocol in [servers.theirs] must be "oip", got None'),
        ("protocol", "protcol", 2, "unknown key 'protcol' in [servers.theirs]; did you mean 'protocol'?"),
        ('"typed"', '"text"', 5, 'contents in [servers.other-one] must be "raw" or "typed", got \'text\''),
        ("servers.theirs", "servers.onnx", 1, "'onnx' already means the stack 'onnx'; give the server another name"),
        ("servers.theirs", "servers.tf_svc", 1, "'tf_svc' already means the stack 'tfserving'; give"),
        ("servers.theirs", "servers.gateway", 1, "'gateway' already means the gateway; give"),
        ("servers.theirs", "servers.null", 1, "'null' already means the load test's no-op server"),
        ("servers.theirs", "servers.other_one", 3, "'other-one' already means [servers.other_one]; give"),
        ("servers.theirs", "servers.Theirs", 1, "'Theirs' is no server's name: lower-case letters"),
        ("stacks.theirs", "stacks.thiers", 10, "did you mean 'theirs'?"),
        ('name = "m-v2"', "name = 3", 12, "name in [models.m.stacks.theirs] must be a text, got 3"),
        ('name = "m-v2"', 'name = ""', 12, "name in [models.m.stacks.theirs] must be a text, got ''"),
        ('version = "2"', "version = 2", 13, "version in [models.m.stacks.theirs] must be a text, got 2"),
        ('"bf16"', '"half"', 14, 'precision in [models.m.stacks.theirs] must be "fp32" or "bf16" or'),
        ('{ x = "input-0" }', '"input-0"', 15, "[models.m.stacks.theirs.inputs] must be a table"),
        ("max_queue = 7", "max_queu = 7", 11, "did you mean 'max_queue'?"),
        ("max_queue = 7", "max_queue = 0", 11, "max_queue must be a whole number above 0, got 0"),
        (
            "[models.m.stacks.onnx]",
            '[models.m.stacks.onnx]\nname = "x"',
            10,
            "unknown key 'name' in [models.m.stacks.onnx]",
        ),
    ],
)
def test_a_mistake_about_an_external_server_names_its_line_and_key(
    tmp_path: Path, good: str, bad: str, line: int, says: str
) -> None:
    text = read(tmp_path, EXTERNAL.replace(good, bad, 1))
    assert says in text
    assert f"line {line}:" in text


def spec_of(inputs: int, outputs: int, rank: int) -> Spec:
    def tensors(count: int) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(f"t{number}", "FP32", (2,) * rank) for number in range(count))

    return Spec(tensors(inputs), tensors(outputs), row_independent=False, tolerance=EXACT)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (spec_of(3, 1, 2), ""),
        (spec_of(4, 1, 2), "the model has 4 inputs or outputs, the gateway takes 3: raise max_tensors in [gateway]"),
        (spec_of(1, 5, 2), "the model has 5 inputs or outputs, the gateway takes 3: raise max_tensors in [gateway]"),
        (spec_of(1, 1, 3), "the model has 3 axes in one tensor, the gateway takes 2: raise max_rank in [gateway]"),
        (
            Spec((TensorSpec("x", "FP32", ("batch", 9)),), (), row_independent=False, tolerance=EXACT),
            "the model has 9 elements in the smallest input, the gateway takes 8: raise max_elements in [gateway]",
        ),
    ],
)
def test_a_model_above_the_gateways_limits_is_told_which_to_raise(spec: Spec, said: str) -> None:
    assert GatewayLimits(max_tensors=3, max_rank=2, max_elements=8).exceeded_by(spec) == said


def test_the_gateways_limits_are_read_of_a_file_that_has_no_model_yet(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text("[gateway]\nmax_rank = 3\n")
    assert read_gateway_limits(path) == GatewayLimits(max_rank=3)
    path.write_text("[gateway]\nmax_rang = 3\n")
    with pytest.raises(DeploymentsError, match=r"line 2: unknown key 'max_rang'.*did you mean 'max_rank'"):
        read_gateway_limits(path)


WEIGHTED = """
[models.m]
default = "onnx"
[models.m.weights]
onnx = 89.75
torchserve = 10.25
[models.m.stacks.onnx]
[models.m.stacks.torchserve]
"""


def test_weights_are_percent_to_two_decimals(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(WEIGHTED)
    (model,) = read_deployments(path).models
    assert model.shares == {"onnx": 89.75, "torchserve": 10.25}
    path.write_text(WEIGHTED.replace("[models.m.weights]\nonnx = 89.75\ntorchserve = 10.25\n", ""))
    (model,) = read_deployments(path).models
    assert (model.weights, model.shares) == ({}, {"onnx": 100.0})


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ("10.25", "10.255", 6, "torchserve must be a percentage from 0 to 100, of at most two decimals, got 10.255"),
        ("10.25", "-1", 6, "torchserve must be a percentage from 0 to 100"),
        ("10.25", "true", 6, "torchserve must be a percentage from 0 to 100"),
        ("10.25", "nan", 6, "torchserve must be a percentage from 0 to 100"),
        ("10.25", "10.26", 5, "the weights of m are 100.01 % together, not 100"),
        (
            "torchserve = 10.25",
            "tfserving = 10.25",
            6,
            "unknown key 'tfserving' in [models.m.weights]; known here: onnx, torchserve",
        ),
    ],
)
def test_wrong_weights_name_line_and_key(tmp_path: Path, good: str, bad: str, line: int, says: str) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(WEIGHTED.replace(good, bad, 1))
    with pytest.raises(DeploymentsError, match=re.escape(f"{path}, line {line}: {says}")):
        read_deployments(path)


FALLING_BACK = WEIGHTED.replace('default = "onnx"', 'default = "onnx"\nfallback = ["torchserve"]')


def test_a_fallback_is_a_list_of_the_models_stacks(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(FALLING_BACK)
    (model,) = read_deployments(path).models
    assert model.fallback == ("torchserve",)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('"torchserve"', "fallback must be a list of stacks, got 'torchserve'"),
        ("[1]", "fallback must be a list of stacks, got [1]"),
        ('["tfserving"]', "fallback has 'tfserving', which is none of ['onnx', 'torchserve']"),
        ('["onnx", "onnx"]', "fallback has a stack twice: ['onnx', 'onnx']"),
    ],
)
def test_a_wrong_fallback_names_line_and_key(tmp_path: Path, bad: str, says: str) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(FALLING_BACK.replace('["torchserve"]', bad))
    with pytest.raises(DeploymentsError, match=re.escape(f"{path}, line 4: {says}")):
        read_deployments(path)


SHADOWED = f"""{WEIGHTED}[models.m.shadow]
stack = "torchserve"
percent = 12.5
max_in_flight = 3
"""


def test_a_shadow_is_a_stack_of_the_model_a_share_and_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(SHADOWED)
    (model,) = read_deployments(path).models
    assert model.shadow == Shadow("torchserve", 12.5, 3)
    path.write_text(SHADOWED.replace("max_in_flight = 3\n", ""))
    (model,) = read_deployments(path).models
    assert model.shadow == Shadow("torchserve", 12.5, 16)


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ('"torchserve"', '"tf"', 10, """stack in [models.m.shadow] must be "onnx" or "torchserve", got 'tf'"""),
        ('stack = "torchserve"\n', "", 9, 'stack in [models.m.shadow] must be "onnx" or "torchserve", got None'),
        ("percent = 12.5\n", "", 9, "percent is missing from [models.m.shadow]"),
        ("12.5", "12.505", 11, "percent must be a percentage from 0 to 100, of at most two decimals, got 12.505"),
        ("= 3", "= 0", 12, "max_in_flight must be a whole number above 0, got 0"),
        ("= 3", "= 2.5", 12, "max_in_flight must be a whole number above 0, got 2.5"),
        ("percent", "percentage", 11, "unknown key 'percentage' in [models.m.shadow]; did you mean 'percent'?"),
    ],
)
def test_a_wrong_shadow_names_line_and_key(tmp_path: Path, good: str, bad: str, line: int, says: str) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(SHADOWED.replace(good, bad, 1))
    with pytest.raises(DeploymentsError, match=re.escape(f"{path}, line {line}: {says}")):
        read_deployments(path)


PROMOTED = f"""{SHADOWED}[models.m.shadow.promote]
after = 1000
steps = [11, 50.5, 100]
"""


def test_a_promotion_has_a_count_and_steps_that_rise_from_the_weight(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(PROMOTED)
    (model,) = read_deployments(path).models
    assert model.shadow == Shadow("torchserve", 12.5, 3, Promote(1000, (11.0, 50.5, 100.0)))
    assert model.split == {"onnx": 89.75, "torchserve": 10.25}
    path.write_text(PROMOTED.replace("[models.m.weights]\nonnx = 89.75\ntorchserve = 10.25\n", ""))
    (model,) = read_deployments(path).models
    assert (model.weights, model.split) == ({}, {"onnx": 100.0, "torchserve": 0.0})


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ("1000", "9", 14, "after must be a whole number from 10 to 100000, got 9"),
        ("1000", "true", 14, "after must be a whole number from 10 to 100000, got True"),
        ("after = 1000\n", "", 13, "after is missing from [models.m.shadow.promote]"),
        ("[11, 50.5, 100]", "[]", 15, "steps must be a list of percentages such as [1, 10, 100], got []"),
        ("[11, 50.5, 100]", "100", 15, "steps must be a list of percentages such as [1, 10, 100], got 100"),
        ("50.5", "50.505", 15, "each of steps must be a percentage from 0 to 100, of at most two decimals, got 50.505"),
        ("50.5", "11", 15, "steps must rise from above the stack's weight, 10.25, got [11, 11, 100]"),
        ("[11,", "[10,", 15, "steps must rise from above the stack's weight, 10.25, got [10, 50.5, 100]"),
        ("steps", "stairs", 15, "unknown key 'stairs' in [models.m.shadow.promote]; known here: after, steps"),
    ],
)
def test_a_wrong_promotion_names_line_and_key(tmp_path: Path, good: str, bad: str, line: int, says: str) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(PROMOTED.replace(good, bad, 1))
    with pytest.raises(DeploymentsError, match=re.escape(f"{path}, line {line}: {says}")):
        read_deployments(path)


def test_a_stack_that_gets_every_call_cannot_be_the_shadow(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(SHADOWED.replace("onnx = 89.75\ntorchserve = 10.25\n", "torchserve = 100\n"))
    with pytest.raises(
        DeploymentsError, match="torchserve already gets every call for m; shadow another of its stacks"
    ):
        read_deployments(path)


def test_routes_are_shown_and_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(FALLING_BACK)
    assert routes(["check", str(path)]) == 0
    rows = [[cell.strip() for cell in line.split("\u2502")[1:6]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row and row[0].startswith("m")] == [
        ["m", "m@onnx", "89.75 %", "torchserve", "ONNX_SVC_ADDR"],
        ["m", "m@torchserve", "10.25 %", "", "TORCH_SVC_ADDR"],
        ["m@onnx", "m@onnx", "100 %", "", "ONNX_SVC_ADDR"],
        ["m@torchserve", "m@torchserve", "100 %", "", "TORCH_SVC_ADDR"],
    ]
    path.write_text(SHADOWED)
    assert routes(["check", str(path)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "repeated" in line]
    assert [cell.strip() for cell in row.split("\u2502")[1:7]] == [
        *("m", "m@torchserve", "12.5 % repeated", "", "TORCH_SVC_ADDR", "3 in flight, others dropped")
    ]
    path.write_text(PROMOTED)
    assert routes(["check", str(path)]) == 0
    assert "after each 1000 equal answers 11, 50.5, 100 % of m" in " ".join(
        "".join(line.split("\u2502")[-2:]).strip() for line in capsys.readouterr().out.splitlines()
    )
    path.write_text(WEIGHTED.replace("10.25", "10.26"))
    assert routes(["check", str(path)]) == 1
    said = capsys.readouterr().err
    assert said == f"servepath routes: {path}, line 5: the weights of m are 100.01 % together, not 100\n"


VERSIONED = """\
[models.m]
default = "onnx"
[models.m.version_labels]
stable = 3
canary = 4
[models.m.version_weights]
stable = 97.5
canary = 2.5
[models.m.stacks.onnx]
[models.m.stacks.torchserve]
[models.m.stacks.mine]
[servers.mine]
protocol = "oip"
"""


def test_versions_have_labels_and_weights_and_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(VERSIONED)
    (model,) = read_deployments(path).models
    assert model.version_labels == {"stable": 3, "canary": 4}
    assert model.version_weights == {"stable": 97.5, "canary": 2.5}
    assert routes(["check", str(path)]) == 0
    rows = [[cell.strip() for cell in line.split("\u2502")[1:7]] for line in capsys.readouterr().out.splitlines()]
    (row,) = [row for row in rows if row and row[0] == "m, version canary"]
    assert row[:3] == ["m, version canary", "version 4", "2.5 %"]
    assert row[5].startswith("torchserve has one version at a time")


@pytest.mark.parametrize(
    ("good", "bad", "line", "says"),
    [
        ("stable = 3", "stable = 0", 4, "stable must be a version, a whole number above 0, got 0"),
        ("stable = 3", "stable = true", 4, "stable must be a version, a whole number above 0, got True"),
        ("stable = 3", '"4" = 3', 4, "'4' is no version label: a letter, then letters, digits"),
        ("stable = 3\n", "", 6, "unknown key 'stable' in [models.m.version_weights]; known here: canary"),
        ("canary = 2.5", "canary = 5", 7, "the version_weights of m are 102.5 % together, not 100"),
        ("canary = 2.5", "canary = -1", 8, "canary must be a percentage from 0 to 100"),
        (
            '"onnx"',
            '"torchserve"',
            7,
            "calls for m may go to torchserve, and it serves one version at a time, the one that was current when it",
        ),
        (
            '"onnx"',
            '"onnx"\nfallback = ["mine"]',
            8,
            "calls for m may go to mine, and it is an external server, whose versions are its own; let them go to onnx",
        ),
    ],
)
def test_a_wrong_label_names_line_and_key(tmp_path: Path, good: str, bad: str, line: int, says: str) -> None:
    assert read(tmp_path, VERSIONED.replace(good, bad, 1)).startswith(f"deployments.toml, line {line}: {says}")


@pytest.mark.parametrize(
    ("said", "percent", "shown"),
    [("", 0, 0), ("hedge_percent = 0", 0, 0), ("hedge_percent = 5", 5, 2)],
)
def test_hedging_is_off_unless_it_is_asked_for_and_shown_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, percent: int, shown: int
) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(GOOD.replace("max_queue = 5", said))
    (model,) = read_deployments(path).models
    assert [limits.hedge_percent for limits in model.stacks.values()] == [percent, 0]
    assert routes(["check", str(path)]) == 0
    rows = " ".join(
        line.split("\u2502")[-2].strip() for line in capsys.readouterr().out.splitlines() if "\u2502" in line
    )
    assert rows.count("; up to 5 % hedged") == shown  # as the default, and by its own name


@pytest.mark.parametrize(
    ("shadow", "line", "says"),
    [
        ('shadow.stack = "onx"\nshadow.percent = 1', 4, "stack in [models.m.shadow] must be"),
        ('shadow = { stack = "onx", percent = 1 }', 4, "stack in [models.m.shadow] must be"),
        (
            'shadow = { stack = "torchserve", percent = 1, promote = { after = 10, step = [1] } }',
            4,
            "unknown key 'step' in [models.m.shadow.promote]",
        ),
        (
            'shadow = { stack = "torchserve", percent = 0, promote = { after = 10, steps = [1] } }',
            4,
            "percent is 0, so no answer is compared, and nothing is promoted",
        ),
    ],
)
def test_a_table_that_has_no_header_is_found_all_the_same(tmp_path: Path, shadow: str, line: int, says: str) -> None:
    path = tmp_path / "deployments.toml"
    stacks = "[models.m.stacks.onnx]\n[models.m.stacks.torchserve]\n"
    path.write_text(f'\n[models.m]\ndefault = "onnx"\n{shadow}\n{stacks}')
    with pytest.raises(DeploymentsError, match=re.escape(f"{path}, line {line}: {says}")):
        read_deployments(path)
