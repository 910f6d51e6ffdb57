"""All steps of docs/add-a-path.md and docs/add-a-model.md are done; each rule is seen to miss the one that is not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.formats import Format
from loadtest import plan
from loadtest.config import read_settings
from loadtest.targets import target_of
from models.registry import MODELS
from services.gateway.deployments import Deployment, PathLimits
from services.local.config import GATEWAY, SERVICES, Places, read_services
from services.wire import oip, servepath
from services.wire.codecs import STACK_CODECS
from services.wire.stacks import STACKS, Stack
from tests.contract import registries
from tests.contract.registries import ROOT, RULES, Registries, ours

Rule = Callable[[Registries], Iterator[str]]
NEW = Stack("litert", "litert_svc", "tflite", "LITERT_SVC_ADDR")


def without(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def deployed(model: str, *stacks: str) -> Deployment:
    return Deployment(model, stacks[0], {stack: PathLimits() for stack in stacks})


def environment(**changed: str) -> dict[str, str]:
    return {**ours().environment, **changed}


def with_stack(stack: Stack) -> dict[str, Stack]:
    return {**ours().stacks, stack.name: stack}


def with_model(name: str, **changed: Any) -> dict[str, Any]:
    return {**ours().models, name: replace(MODELS["simple_nn"], **changed)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_registry_lacks_what_another_has(rule: Rule) -> None:
    gaps = list(rule(ours()))
    assert not gaps, "\n".join(gaps)


# What is broken in a copy of the tables, and a part of the line that must say so.
BROKEN: list[tuple[Rule, dict[str, Callable[[], Any]], str]] = [
    (registries.stacks_fit_together, {"stacks": lambda: {"x": NEW}}, "STACKS['x'] is called 'litert'"),
    (
        registries.stacks_fit_together,
        {"stacks": lambda: with_stack(replace(NEW, service="tf_svc"))},
        "two stacks have the service 'tf_svc'",
    ),
    (
        registries.stacks_fit_together,
        {"stacks": lambda: with_stack(replace(NEW, address_variable="TF_SVC_ADDR"))},
        "two stacks have the address_variable 'TF_SVC_ADDR'",
    ),
    (registries.every_stack_has_a_codec, {"stacks": lambda: with_stack(NEW)}, "litert: in only one"),
    (registries.every_stack_has_a_codec, {"codecs": lambda: without(STACK_CODECS, "onnx")}, "onnx: in only one"),
    (
        registries.every_stack_has_a_codec,
        {"codecs": lambda: {**STACK_CODECS, "onnx": SimpleNamespace(**without(vars(oip), "translate"))}},
        "onnx: its codec has no translate()",
    ),
    (
        registries.every_stack_has_a_codec,
        {"codecs": lambda: {**STACK_CODECS, "onnx": SimpleNamespace(**{**vars(oip), "METHOD": "ModelInfer"})}},
        "onnx: its codec's METHOD",
    ),
    (registries.every_service_starts, {"stacks": lambda: with_stack(NEW)}, "services/litert_svc/__main__.py"),
    (registries.every_service_starts, {"helps": lambda: without(ours().helps, GATEWAY)}, "services/gateway/__main__"),
    (
        registries.every_service_starts,
        {"helps": lambda: {**ours().helps, "tf_svc": ours().helps["tf_svc"].replace("--models", "--dir")}},
        "services.tf_svc does not take --models",
    ),
    (
        registries.every_service_listens_on_loopback,
        {"helps": lambda: {**ours().helps, "onnx_svc": ours().helps["onnx_svc"].replace("127.0.0.1", "10.0.0.1", 1)}},
        "services.onnx_svc --host is not",
    ),
    (
        registries.every_service_listens_on_loopback,
        {"helps": lambda: {**ours().helps, "tf_svc": ours().helps["tf_svc"].replace("--host", "--on")}},
        "services.tf_svc does not take --host",
    ),
    (
        registries.every_service_has_ports_and_address,
        {"stacks": lambda: with_stack(NEW)},
        ".env: LITERT_SVC_PORT is missing",
    ),
    (
        registries.every_service_has_ports_and_address,
        {"environment": lambda: environment(ONNX_SVC_ADDR="10.0.0.1:8001")},
        ".env: ONNX_SVC_ADDR is not 127.0.0.1:8001",
    ),
    (
        registries.every_service_has_ports_and_address,
        {"environment": lambda: environment(ONNX_SVC_PORT="8500", ONNX_SVC_ADDR="127.0.0.1:8500")},
        ".env: port 8500 is given twice",
    ),
    (registries.the_runner_knows_every_service, {"stacks": lambda: with_stack(NEW)}, "litert_svc: in only one"),
    (registries.the_runner_knows_every_service, {"local": lambda: without(ours().local, "tf_svc")}, "tf_svc: in only"),
    (
        registries.the_runner_knows_every_service,
        {"local": lambda: {**ours().local, "tf_svc": ("TF_SVC_METRICS_PORT",)}},
        "tf_svc: PORT_VARIABLES begins with TF_SVC_METRICS_PORT",
    ),
    (
        registries.the_runner_knows_every_service,
        {"environment": lambda: without(ours().environment, "TORCH_SVC_HTTP_PORT")},
        ".env: TORCH_SVC_HTTP_PORT",
    ),
    (registries.every_service_is_in_pyproject, {"stacks": lambda: with_stack(NEW)}, "no extra litert-svc"),
    (
        registries.every_service_is_in_pyproject,
        {"layers": lambda: ours().layers - {"services.tf_svc"}},
        "no import-linter layer holds services.tf_svc",
    ),
    (
        registries.every_format_has_an_exporter,
        {"models": lambda: with_model("third", formats=("saved_model", "reference"))},
        "third: FORMATS has no ('torch', 'saved_model')",
    ),
    (
        registries.every_format_has_an_exporter,
        {"models": lambda: with_model("third", formats=("onnx",))},
        "third: no format 'reference'",
    ),
    (
        registries.every_format_has_an_exporter,
        {"formats": lambda: {**ours().formats, ("torch", "tflite"): Format("export.tflite", ())}},
        "export.tflite, which is no module",
    ),
    (registries.every_stack_has_a_format, {"stacks": lambda: with_stack(NEW)}, "litert: FORMATS has no 'tflite'"),
    (
        registries.every_model_can_be_trained,
        {"models": lambda: with_model("third", builder="models.third:Third")},
        "third: models.third:Third is not there",
    ),
    (
        registries.every_model_can_be_trained,
        {"models": lambda: with_model("third", framework="jax")},
        "third: training has no loop for jax",
    ),
    (
        registries.every_model_can_be_trained,
        {"models": lambda: with_model("third", weights="weights.bin")},
        "third: export cannot read weights.bin",
    ),
    (
        registries.every_path_has_an_artefact,
        {"deployments": lambda: (deployed("third", "onnx"),)},
        "third is not in MODELS",
    ),
    (
        registries.every_path_has_an_artefact,
        {"deployments": lambda: (deployed("simple_nn", "tfserving"),)},
        "simple_nn@tfserving: MODELS does not export it as saved_model",
    ),
    (registries.every_artefact_is_deployed, {"models": lambda: with_model("third")}, "no [models.third]"),
    (
        registries.every_artefact_is_deployed,
        {"deployments": lambda: (deployed("simple_nn", "onnx"), ours().deployments[1])},
        "no [models.simple_nn.stacks.torchserve]",
    ),
    (
        registries.every_architecture_is_registered,
        {"architectures": lambda: ours().architectures | {"third"}},
        "models/third.py: no entry of MODELS builds it",
    ),
    (registries.every_stack_is_told_apart, {"stacks": lambda: with_stack(NEW)}, "litert: the PATHS of"),
    (
        registries.every_stack_is_told_apart,
        {"routed": lambda: ours().routed | {"gone@onnx"}},
        "gone@onnx: in the PATHS",
    ),
]


@pytest.mark.parametrize(("rule", "broken", "line"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_step_left_out_is_named(rule: Rule, broken: dict[str, Callable[[], Any]], line: str) -> None:
    found = list(rule(replace(ours(), **{name: make() for name, make in broken.items()})))
    assert [text for text in found if line in text] != []


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_runner_starts_every_service_with_a_port_of_its_own() -> None:
    places = Places(ROOT / ".run", ROOT / "artifacts" / "exports", ROOT / "deployments.toml")
    services = read_services(places, ROOT / ".env", environment={})
    assert list(services) == [*(stack.service for stack in STACKS.values()), GATEWAY] == list(SERVICES)
    for service in services.values():
        assert service.command[1:3] == ("-m", f"services.{service.name}")
        assert service.command[service.command.index("--port") + 1] == str(service.ports[0])


def test_the_load_test_reaches_every_path_both_ways() -> None:
    settings = read_settings(ROOT / ".env", environment={})
    paths = plan.read_paths(ROOT / "deployments.toml")
    assert {str(path) for path in paths} == ours().paths
    for block in plan.draw(paths, plan.VIAS, seed=0):
        target = target_of(block, settings, Path("no-exports"))
        through_gateway = block.via == "gateway"
        assert target.method == (servepath if through_gateway else STACK_CODECS[block.path.stack]).METHOD
        assert target.model == (str(block.path) if through_gateway else block.path.model)
        assert target.address == (settings.gateway if through_gateway else settings.stacks[block.path.stack])
