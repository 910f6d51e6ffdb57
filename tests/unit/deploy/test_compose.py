"""What docker-compose.yml promises, as Compose itself reads it; make e2e-compose holds running containers to it."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deploy.builder.images import IMAGES, read_variables, tag
from deploy.compose import compose_environment
from deploy.engine import Engine
from servepath.protocols.deployments_file import read_deployments
from servepath.runner.up import GRACE_S
from servepath.settings import variables
from services.dataplane.data_plane import MAX_LINGER_S
from services.dataplane.health import SET_S
from services.dataplane.native_listener import FLUSH_S
from services.gateway.server import CLOSE_GRACE_S
from services.gateway.tracing import STOP_S
from tests.limits import LONG_S

ROOT = Path(__file__).parents[3]
COMPOSE = Path(sys.executable).with_name("docker-compose")
GATEWAYS = {"gateway", "gateway_2"}
BACKENDS = {"torch_svc", "tf_svc", "onnx_svc"}
SCREENS = {"prometheus", "grafana"}
Model = dict[str, Any]


@cache
def read(*overrides: str) -> Model:
    return config({**variables(ROOT / "images.lock", {}), **os.environ}, *overrides)


def config(environment: Mapping[str, str], *overrides: str) -> Model:
    files = [word for name in ("docker-compose.yml", *overrides) for word in ("--file", name)]
    command = [str(COMPOSE), *files, "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG_S, check=True
    )
    assert done.stderr == ""  # a warning is a mistake
    found: Model = json.loads(done.stdout)
    return found


def hardened(model: Model) -> Iterator[str]:
    for name, service in model["services"].items():
        if service.get("cap_drop") != ["ALL"] or "cap_add" in service:
            yield f"{name} keeps capabilities"
        if service.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{name} may gain privileges"
        if not service.get("read_only"):
            yield f"{name} can write to its root file system"
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not (limits.keys() >= {"cpus", "memory", "pids"} and "nofile" in service.get("ulimits", {})):
            yield f"{name} has no bounds"


def only_gateways_and_screens_are_published(model: Model) -> Iterator[str]:
    for name, service in model["services"].items():
        ports = service.get("ports", [])
        if ports and name not in GATEWAYS | SCREENS:
            yield f"{name} is published"
        yield from (f"{name} is published beyond loopback" for port in ports if port.get("host_ip") != "127.0.0.1")


def backends_have_no_way_out_and_no_neighbour(model: Model) -> Iterator[str]:
    for name in BACKENDS:
        if list(model["services"][name]["networks"]) != [f"to_{name}"]:
            yield f"{name} is on other networks than its own"
        if not model["networks"][f"to_{name}"].get("internal"):
            yield f"{name} has a way out"


def models_are_read_only(model: Model) -> Iterator[str]:
    for name, service in model["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and not volume.get("read_only"):
                yield f"{name} can write to {volume['target']}"


def tensorflow_servings_socket_is_for_the_gateway_and_the_load_test(model: Model) -> Iterator[str]:
    if model["volumes"]["tf_svc"].get("driver_opts", {}).get("type") != "tmpfs":
        yield "the socket's folder is on disk"
    for name, service in model["services"].items():
        mounts = [volume for volume in service.get("volumes", []) if volume.get("source") == "tf_svc"]
        if any(not volume.get("read_only") for volume in mounts) and name != "tf_svc":
            yield f"{name} can replace the socket"
        if mounts and name in BACKENDS - {"tf_svc"}:
            yield f"{name} reaches the socket"


def the_key_is_in_memory_and_written_by_torch_svc_alone(model: Model) -> Iterator[str]:
    if model["volumes"]["tokens"].get("driver_opts", {}).get("type") != "tmpfs":
        yield "keys are written to disk"
    for name, service in model["services"].items():
        mounts = [volume for volume in service.get("volumes", []) if volume.get("source") == "tokens"]
        if any(not volume.get("read_only") for volume in mounts) and name != "torch_svc":
            yield f"{name} can write the key"
        if mounts and name in BACKENDS - {"torch_svc"}:
            yield f"{name} can read the key"


def nobody_logs_in_at_the_dashboard(model: Model) -> Iterator[str]:
    grafana = model["services"]["grafana"]["environment"]
    if grafana.get("GF_AUTH_ANONYMOUS_ORG_ROLE") != "Viewer":
        yield "anyone who reaches grafana may change it"
    if (grafana.get("GF_AUTH_DISABLE_LOGIN_FORM"), grafana.get("GF_AUTH_BASIC_ENABLED")) != ("true", "false"):
        yield "grafana takes its well-known first password"


def servers_have_health_checks_for_old_engines(model: Model) -> Iterator[str]:
    for name in GATEWAYS | BACKENDS:
        check = model["services"][name].get("healthcheck")
        if not check:
            yield f"{name} has no health check"
        elif "start_interval" in check:  # Engine 25
            yield f"{name} needs a newer engine"


def the_gateway_waits_for_all(model: Model) -> Iterator[str]:
    for name in GATEWAYS:
        waits = {
            key for key, how in model["services"][name]["depends_on"].items() if how["condition"] == "service_healthy"
        }
        yield from (f"{name} does not wait for {missing}" for missing in sorted(BACKENDS - waits))


def each_gateway_keeps_its_own_state(model: Model) -> Iterator[str]:
    folders = set()
    for name in GATEWAYS:
        command = model["services"][name]["command"]
        folder = Path("/app", dict(pairwise(command)).get("--state", ".run/gateway"))
        volumes = [volume for volume in model["services"][name]["volumes"] if not volume.get("read_only")]
        if not any(folder.is_relative_to(volume["target"]) for volume in volumes):
            yield f"{name} cannot keep its state"
        folders.add(folder)
    if len(folders) < len(GATEWAYS):
        yield "gateways share a state"


def deployments_are_the_hosts(model: Model) -> Iterator[str]:
    for name, service in model["services"].items():
        dockerfile = ROOT / (service.get("build") or {}).get("dockerfile", "docker-compose.yml")
        if re.search(r"^COPY .*\bdeployments\.toml ", dockerfile.read_text(), re.MULTILINE):
            mounted = {volume["target"] for volume in service.get("volumes", []) if volume["type"] == "bind"}
            if "/app/deployments.toml" not in mounted:
                yield f"{name} has the deployments.toml of when its image was built"


RULES = (
    hardened,
    only_gateways_and_screens_are_published,
    backends_have_no_way_out_and_no_neighbour,
    models_are_read_only,
    tensorflow_servings_socket_is_for_the_gateway_and_the_load_test,
    the_key_is_in_memory_and_written_by_torch_svc_alone,
    nobody_logs_in_at_the_dashboard,
    servers_have_health_checks_for_old_engines,
    the_gateway_waits_for_all,
    each_gateway_keeps_its_own_state,
    deployments_are_the_hosts,
)
Rule = Callable[[Model], Iterator[str]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("overrides", [(), ("docker-compose.gpu.yml",), ("docker-compose.embedded.yml",)], ids=str)
def test_the_compose_file_keeps_the_rule(rule: Rule, overrides: tuple[str, ...]) -> None:
    assert list(rule(read(*overrides))) == []


def _without(key: str) -> Callable[[Model], object]:
    return lambda model: model["services"]["onnx_svc"].pop(key)


def _with(service: str, **changed: Any) -> Callable[[Model], object]:
    return lambda model: model["services"][service].update(changed)


BROKEN: list[tuple[Rule, Callable[[Model], object], str]] = [
    (hardened, _without("cap_drop"), "onnx_svc keeps capabilities"),
    (hardened, _with("onnx_svc", cap_add=["SYS_NICE"]), "onnx_svc keeps capabilities"),
    (hardened, _without("security_opt"), "onnx_svc may gain privileges"),
    (hardened, _without("read_only"), "onnx_svc can write to its root file system"),
    (hardened, _without("deploy"), "onnx_svc has no bounds"),
    (hardened, _without("ulimits"), "onnx_svc has no bounds"),
    (only_gateways_and_screens_are_published, _with("tf_svc", ports=[{"host_ip": "127.0.0.1"}]), "tf_svc is published"),
    (only_gateways_and_screens_are_published, _with("gateway", ports=[{}]), "gateway is published beyond loopback"),
    (backends_have_no_way_out_and_no_neighbour, _with("tf_svc", networks={"front": None}), "tf_svc is on other"),
    (
        backends_have_no_way_out_and_no_neighbour,
        lambda model: model["networks"]["to_tf_svc"].pop("internal"),
        "tf_svc has a way out",
    ),
    (
        models_are_read_only,
        _with("tf_svc", volumes=[{"type": "bind", "target": "/models"}]),
        "tf_svc can write to /models",
    ),
    (
        the_key_is_in_memory_and_written_by_torch_svc_alone,
        lambda model: model["volumes"]["tokens"].pop("driver_opts"),
        "keys are written to disk",
    ),
    (
        the_key_is_in_memory_and_written_by_torch_svc_alone,
        _with("gateway", volumes=[{"type": "volume", "source": "tokens"}]),
        "gateway can write the key",
    ),
    (
        the_key_is_in_memory_and_written_by_torch_svc_alone,
        _with("tf_svc", volumes=[{"type": "volume", "source": "tokens", "read_only": True}]),
        "tf_svc can read the key",
    ),
    (
        tensorflow_servings_socket_is_for_the_gateway_and_the_load_test,
        _with("onnx_svc", volumes=[{"type": "volume", "source": "tf_svc", "read_only": True}]),
        "onnx_svc reaches the socket",
    ),
    (
        tensorflow_servings_socket_is_for_the_gateway_and_the_load_test,
        _with("gateway", volumes=[{"type": "volume", "source": "tf_svc"}]),
        "gateway can replace the socket",
    ),
    (
        tensorflow_servings_socket_is_for_the_gateway_and_the_load_test,
        lambda model: model["volumes"]["tf_svc"].pop("driver_opts"),
        "the socket's folder is on disk",
    ),
    (
        nobody_logs_in_at_the_dashboard,
        lambda model: model["services"]["grafana"]["environment"].update(GF_AUTH_ANONYMOUS_ORG_ROLE="Admin"),
        "may change it",
    ),
    (
        nobody_logs_in_at_the_dashboard,
        lambda model: model["services"]["grafana"]["environment"].pop("GF_AUTH_BASIC_ENABLED"),
        "well-known first password",
    ),
    (servers_have_health_checks_for_old_engines, _without("healthcheck"), "onnx_svc has no health check"),
    (
        servers_have_health_checks_for_old_engines,
        _with("tf_svc", healthcheck={"start_interval": "1s"}),
        "tf_svc needs a newer engine",
    ),
    (the_gateway_waits_for_all, _with("gateway", depends_on={}), "gateway does not wait for onnx_svc"),
    (each_gateway_keeps_its_own_state, _with("gateway", volumes=[]), "gateway cannot keep its state"),
    (each_gateway_keeps_its_own_state, _with("gateway_2", command=[]), "gateways share a state"),
    (deployments_are_the_hosts, _with("loadtest", volumes=[]), "loadtest has the deployments.toml of when"),
]


@pytest.mark.parametrize(("rule", "change", "said"), BROKEN, ids=[said for _, _, said in BROKEN])
def test_a_compose_file_that_breaks_the_rule_is_found(rule: Rule, change: Callable[[Model], object], said: str) -> None:
    model = copy.deepcopy(read())
    change(model)
    assert [line for line in rule(model) if said in line] != []


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_tags_and_ports_come_from_env() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    tagged = re.compile(r"servepath/[\w-]+:\$\{SERVEPATH_TAG:\?\}|\$\{\w+_IMAGE:\?\}")
    assert [image for image in re.findall(r"^ +image: (.*)", text, re.MULTILINE) if not tagged.fullmatch(image)] == []
    ports = re.findall(r"^ +ports:\n +- (.*)", text, re.MULTILINE)
    assert [line for line in ports if not re.match(r'"127\.0\.0\.1:\$\{\w+_PORT:\?\}:', line)] == []
    assert len(ports) == len(GATEWAYS | SCREENS)


@pytest.mark.parametrize("overrides", [(), ("docker-compose.gpu.yml",), ("docker-compose.embedded.yml",)], ids=str)
def test_compose_builds_images_as_the_builder_does(overrides: tuple[str, ...]) -> None:
    variables = read_variables(ROOT, {})
    by_tag = {tag(name, variables): image for name, image in IMAGES.items()}
    for service in read(*overrides)["services"].values():
        if "build" in service:
            image = by_tag[service["image"]]
            given = {key: value for key, value in service["build"]["args"].items() if value}
            assert service["build"]["dockerfile"] == f"deploy/images/{image.repository}.Dockerfile"
            assert given.pop("BASE") == variables[image.base]
            given.pop("COMMIT", None)
            assert given == {**image.arguments, **{key: variables[key] for key in image.passed}}


def test_the_volume_of_a_gateways_state_gets_the_owner_of_the_images_folder() -> None:
    image = (ROOT / "deploy/images/gateway.Dockerfile").read_text()
    volumes = read()["services"]["gateway"]["volumes"]
    (target,) = [volume["target"] for volume in volumes if not volume.get("read_only")]
    assert f"chown 65532:65532 {target}\n" in image


def test_tensorflow_serving_listens_where_the_gateway_asks() -> None:
    services = read()["services"]
    socket = services["tf_svc"]["environment"]["TF_SVC_SOCKET"]
    assert services["gateway"]["environment"]["TF_SVC_ADDR"] == f"unix:{socket}"
    assert services["tf_svc"]["healthcheck"]["test"] == ["CMD", "test", "-S", socket]
    for name in ("gateway", "loadtest"):
        assert services[name]["environment"]["TF_SVC_VERSION_FILE"] == str(Path(socket).with_name("version"))


def test_on_gpus_each_backend_reserves_one_and_has_an_image_of_its_own() -> None:
    services = read("docker-compose.gpu.yml")["services"]
    for name in BACKENDS:
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
        assert services[name]["image"] == tag(f"{name}-gpu", read_variables(ROOT, {}))
        assert services[name]["deploy"]["resources"]["limits"]
    # Else nothing is left for the others.
    assert services["tf_svc"]["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert services["onnx_svc"]["command"][-2:] == ["--device", "cuda"]
    assert services["onnx_svc"]["build"]["args"]["DEVICE"] == "gpu"


def test_the_stand_in_for_tensorflow_serving_is_called_embedded() -> None:
    assert "embedded" in read("docker-compose.embedded.yml")["services"]["tf_svc"]["image"]


def test_the_digests_of_images_lock_win_over_the_tags_of_env(tmp_path: Path) -> None:
    base = f"python:3.11-slim-bookworm@sha256:{'0' * 64}"
    (tmp_path / "images.lock").write_text(f"PYTHON_IMAGE={base}\n")
    engine = Engine("docker", "unix:///nowhere", "28", own=False)
    environment = compose_environment(engine, {"SERVEPATH_TAG": "e2e"}, tmp_path / "images.lock")
    gateway = config(environment)["services"]["gateway"]
    assert (gateway["image"], gateway["build"]["args"]["BASE"]) == ("servepath/gateway:e2e", base)


def test_every_service_has_time_to_drain_and_close() -> None:
    drain_s = read_deployments(ROOT / "deployments.toml").gateway.drain_s
    needed_s = 2 * SET_S + drain_s + MAX_LINGER_S + CLOSE_GRACE_S + FLUSH_S + STOP_S
    given = {name: service["stop_grace_period"] for name, service in read()["services"].items()}
    assert [name for name, text in given.items() if float(text.removesuffix("s")) < needed_s] == []
    assert needed_s <= GRACE_S
