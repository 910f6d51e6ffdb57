"""All steps of docs/add-a-path.md and docs/add-a-model.md are done; each rule is seen to miss the one that is not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.formats import Format
from loadtest import plan
from loadtest.config import read_settings
from loadtest.targets import target_of
from models.registry import Model
from servepath.protocols import oip, servepath
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.deployments import Deployment, PathLimits
from servepath.protocols.stacks import STACKS, Stack
from servepath.results.names import VIAS
from servepath.runner.config import GATEWAY, SERVICES, RunPaths, read_services
from tests.contract import registries
from tests.contract.registries import ROOT, RULES, Registries, ours
from tests.manifests import SPEC

Rule = Callable[[Registries], Iterator[str]]
NEW = Stack(name="openvino", service="openvino_svc", artifact_format="openvino_ir", codec="", ports=(), images=())
THIRD = Model("torch", "models.simple_nn.model:SimpleNN", ("onnx", "reference"), SPEC)


def deployed(model: str, *stacks: str) -> Deployment:
    return Deployment(model, stacks[0], {stack: PathLimits() for stack in stacks})


def helped(*options: str) -> str:
    return "".join(f"  {option} VALUE  here (default: 127.0.0.1)\n" for option in options)


# One path with all its steps done; each case below breaks one table of it.
WHOLE = Registries(
    stacks={"onnx": STACKS["onnx"]},
    codecs={"onnx": oip},
    helps={
        "onnx_svc": helped("--models", "--host", "--port"),
        GATEWAY: helped("--deployments", "--exports", "--host", "--port"),
    },
    environment={
        "ONNX_SVC_PORT": "8001",
        "ONNX_SVC_ADDR": "127.0.0.1:8001",
        "ONNX_SVC_METRICS_PORT": "8002",
        "GATEWAY_PORT": "50051",
        "GATEWAY_ADDR": "127.0.0.1:50051",
    },
    local={"onnx_svc": ("ONNX_SVC_PORT", "ONNX_SVC_METRICS_PORT"), GATEWAY: ("GATEWAY_PORT",)},
    formats={
        ("torch", "onnx"): Format("export.torch_onnx", ()),
        ("torch", "reference"): Format("export.reference", ()),
    },
    models={"third": THIRD},
    loops={"torch": "training.with_torch"},
    readers={".safetensors": bytes},
    deployments=(deployed("third", "onnx"),),
    extras=frozenset({"onnx-svc"}),
    layers=frozenset({"services.onnx_svc"}),
    routed=frozenset({"third@onnx"}),
)
STACKS_AND_NEW = {**WHOLE.stacks, "openvino": NEW}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_registry_lacks_what_another_has(rule: Rule) -> None:
    gaps = list(rule(ours()))
    assert not gaps, "\n".join(gaps)


def with_environment(**changed: str) -> dict[str, Any]:
    return {"environment": {**WHOLE.environment, **changed}}


def with_help(service: str, *options: str) -> dict[str, Any]:
    return {"helps": {**WHOLE.helps, service: helped(*options)}}


def with_model(**changed: Any) -> dict[str, Any]:
    return {"models": {"third": replace(THIRD, **changed)}}


def with_codec(**changed: Any) -> dict[str, Any]:
    return {"codecs": {"onnx": SimpleNamespace(**{**vars(oip), **changed})}}


# The rule, what is broken, and a part of the line that must say so.
BROKEN: list[tuple[Rule, dict[str, Any], str]] = [
    (registries.stacks_fit_together, {"stacks": {"x": NEW}}, "STACKS['x'] is called 'openvino'"),
    (
        registries.stacks_fit_together,
        {"stacks": {**WHOLE.stacks, "openvino": replace(NEW, service="onnx_svc")}},
        "two stacks have the service 'onnx_svc'",
    ),
    (registries.every_stack_has_a_codec, {"stacks": STACKS_AND_NEW}, "openvino: in only one"),
    (registries.every_stack_has_a_codec, {"codecs": {}}, "onnx: in only one"),
    (registries.every_stack_has_a_codec, with_codec(translate=None), "onnx: its codec has no translate()"),
    (registries.every_stack_has_a_codec, with_codec(METHOD="ModelInfer"), "onnx: its codec's METHOD"),
    (registries.every_service_starts, {"stacks": STACKS_AND_NEW}, "services/openvino_svc/__main__.py is missing"),
    (registries.every_service_starts, {"helps": {}}, "services/gateway/__main__.py is missing"),
    (registries.every_service_starts, with_help("onnx_svc", "--host", "--port"), "onnx_svc does not take --models"),
    (registries.every_service_starts, with_help(GATEWAY, "--host", "--port"), "gateway does not take --deployments"),
    (
        registries.every_service_listens_on_loopback,
        {"helps": {"onnx_svc": helped("--port") + "  --host HOST  default: 10.0.0.1\n" + helped("--models")}},
        "onnx_svc --host is not 127.0.0.1",
    ),
    (registries.every_service_listens_on_loopback, with_help(GATEWAY, "--port"), "gateway does not take --host"),
    (registries.every_service_has_ports_and_address, {"stacks": STACKS_AND_NEW}, ".env: OPENVINO_SVC_PORT is missing"),
    (
        registries.every_service_has_ports_and_address,
        with_environment(ONNX_SVC_ADDR="10.0.0.1:8001"),
        ".env: ONNX_SVC_ADDR is not 127.0.0.1:8001",
    ),
    (
        registries.every_service_has_ports_and_address,
        with_environment(ONNX_SVC_METRICS_PORT="8001"),
        ".env: port 8001 is given twice",
    ),
    (registries.the_runner_knows_every_service, {"stacks": STACKS_AND_NEW}, "openvino_svc: in only one"),
    (registries.the_runner_knows_every_service, {"stacks": {}}, "onnx_svc: in only one"),
    (
        registries.the_runner_knows_every_service,
        {"local": {"onnx_svc": ("ONNX_SVC_METRICS_PORT",), GATEWAY: ("GATEWAY_PORT",)}},
        "onnx_svc: PORTS begins with ONNX_SVC_METRICS_PORT",
    ),
    (
        registries.the_runner_knows_every_service,
        with_environment(ONNX_SVC_METRICS_PORT=""),
        ".env: ONNX_SVC_METRICS_PORT",
    ),
    (registries.every_service_is_in_pyproject, {"extras": frozenset()}, "no extra onnx-svc"),
    (registries.every_service_is_in_pyproject, {"layers": frozenset()}, "no import-linter layer holds services.onnx"),
    (
        registries.every_format_has_an_exporter,
        with_model(formats=("mar", "reference")),
        "third: FORMATS has no ('torch', 'mar')",
    ),
    (registries.every_format_has_an_exporter, with_model(formats=("onnx",)), "third: no format 'reference'"),
    (
        registries.every_format_has_an_exporter,
        {"formats": {**WHOLE.formats, ("torch", "openvino_ir"): Format("export.gone", ())}},
        "export.gone, which is no module",
    ),
    (registries.every_stack_has_a_format, {"stacks": STACKS_AND_NEW}, "openvino: FORMATS has no 'openvino_ir'"),
    (
        registries.every_model_can_be_trained,
        with_model(builder="models.simple_nn.gone:Gone"),
        "models.simple_nn.gone:Gone is not there",
    ),
    (registries.every_model_can_be_trained, with_model(framework="jax"), "training has no loop for jax"),
    (registries.every_model_can_be_trained, {"readers": {}}, "export cannot read weights.safetensors"),
    (registries.every_path_has_an_artifact, {"models": {}}, "third is not in models/"),
    (
        registries.every_path_has_an_artifact,
        with_model(formats=("reference",)),
        "third@onnx: models/ does not export it as onnx",
    ),
    (registries.every_artifact_is_deployed, {"deployments": ()}, "no [models.third.stacks.onnx]"),
    (registries.every_artifact_is_deployed, {"deployments": (), "stacks": {}}, "no [models.third]"),
    (registries.every_stack_is_told_apart, {"routed": frozenset()}, "onnx: the PATHS of"),
    (registries.every_stack_is_told_apart, {"routed": frozenset({"gone@onnx"})}, "gone@onnx: in the PATHS"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_path_with_all_its_steps_done_has_no_gap(rule: Rule) -> None:
    assert list(rule(WHOLE)) == []


@pytest.mark.parametrize(("rule", "broken", "line"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_step_left_out_is_named(rule: Rule, broken: dict[str, Any], line: str) -> None:
    found = list(rule(replace(WHOLE, **broken)))
    assert [text for text in found if line in text] != []


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_runner_starts_every_service_with_a_port_of_its_own() -> None:
    run_paths = RunPaths(ROOT / ".run", ROOT / "artifacts" / "exports", ROOT / "deployments.toml")
    services = read_services(run_paths, ROOT / ".env", environment={})
    assert list(services) == [*(stack.service for stack in STACKS.values()), GATEWAY] == list(SERVICES)
    for service in services.values():
        assert service.command[1:3] == ("-m", f"services.{service.name}")
        assert service.command[service.command.index("--port") + 1] == str(service.ports[0])


def test_the_load_test_reaches_every_path_both_ways() -> None:
    settings = read_settings(ROOT / ".env", environment={})
    paths = plan.read_paths(ROOT / "deployments.toml")
    assert {str(path) for path in paths} == ours().paths
    for measurement in plan.measurements_of(paths, VIAS)[:-1]:  # the last is the no-op server's
        target = target_of(measurement, settings, Path("no-exports"))
        through_gateway = measurement.via == "gateway"
        assert target.method == (servepath if through_gateway else STACK_CODECS[measurement.path.stack]).METHOD
        assert target.model == (str(measurement.path) if through_gateway else measurement.path.model)
        assert target.address == settings.addresses[plan.server_of(measurement)]
