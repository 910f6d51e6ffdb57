"""The manifests repeat ports, tags and names that are said elsewhere: here they are held to them, without a kubectl."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from deploy.builder.images import IMAGES, tag
from export import __main__ as export_main
from loadtest import __main__ as loadtest_main
from loadtest.config import parse_targets
from servepath.protocols import probes
from servepath.protocols.stacks import STACKS
from servepath.runner.config import PORTS
from servepath.settings import SettingsError
from services.gateway import config as gateway_config
from services.gateway import probe as gateway_probe
from services.litert_svc import config as litert_config
from services.onnx_svc import config as onnx_config
from services.torch_svc import config as torch_config
from services.torch_svc import healthcheck as torch_healthcheck
from services.torch_svc import probe as torch_probe
from training import __main__ as training_main

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "k8s"
ENVIRONMENT = {name: value for name, value in dotenv_values(ROOT / ".env").items() if value}
# The ports that each service's pods open: of torch_svc one, the others stay on its loopback.
OPEN: Mapping[str, tuple[str, ...]] = {
    service.replace("_", "-"): tuple(port.variable for port in ports if not port.loopback)
    for service, ports in PORTS.items()
}
# DNS, Locust, and prometheus-adapter's own.
FOREIGN_PORTS = {53, 5557, 443, 6443}
PORT_KEYS = ("port", "containerPort", "targetPort")
TARGETS = "LOADTEST_TARGETS"
SETTING = re.compile(r"[A-Z_]+_(PORT|ADDR)")


def documents(pattern: str) -> Iterator[Any]:
    for path in sorted(MANIFESTS.glob(pattern)):
        yield from (document for document in yaml.safe_load_all(path.read_text()) if document)


def values(tree: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    """Yield what stands under these keys, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in keys and not isinstance(value, dict | list):
                yield value
            yield from values(value, keys)
    elif isinstance(tree, list):
        for value in tree:
            yield from values(value, keys)


def port(variable: str) -> int:
    return int(ENVIRONMENT[variable])


def settings() -> dict[str, str]:
    (base,) = documents("base/kustomization.yaml")
    (found,) = (one for one in base["configMapGenerator"] if one["name"] == "settings")
    return dict(literal.split("=", 1) for literal in found["literals"])


def wrong_settings(found: Mapping[str, str]) -> Iterator[str]:
    """Yield the settings that differ from .env; of an address only the port is the same."""
    wanted = {name: value for name, value in ENVIRONMENT.items() if SETTING.fullmatch(name)}
    services = {
        name for name in wanted if name.startswith(("GATEWAY_", "TORCH_SVC_", "TF_SVC_", "ONNX_SVC_", "LITERT_SVC_"))
    }
    for name in sorted(services - {"GATEWAY_2_PORT"} | found.keys() - {TARGETS}):
        mine, theirs = (table.get(name, "").rpartition(":")[2] for table in (found, wanted))
        if mine != theirs:
            yield f"{name} ends in {mine or 'nothing'}, in .env in {theirs or 'nothing'}"


def test_every_setting_is_that_of_env() -> None:
    assert list(wrong_settings(settings())) == []


def test_a_setting_that_differs_is_found() -> None:
    assert list(wrong_settings(settings() | {"TF_SVC_PORT": "1"})) == ["TF_SVC_PORT ends in 1, in .env in 8500"]


def test_the_load_test_is_told_the_addresses_of_the_settings() -> None:
    addresses = {"gateway": "GATEWAY_ADDR"} | {stack.name: stack.address_variable for stack in STACKS.values()}
    assert parse_targets(settings()[TARGETS]) == {name: settings()[variable] for name, variable in addresses.items()}


@pytest.mark.parametrize("service", OPEN)
def test_a_service_opens_its_ports_and_no_others(service: str) -> None:
    found = {value for document in documents(f"base/{service}.yaml") for value in values(document, PORT_KEYS)}
    assert found == {port(variable) for variable in OPEN[service]}


def test_no_manifest_names_another_port() -> None:
    known = {port(variable) for variables in OPEN.values() for variable in variables} | FOREIGN_PORTS
    assert {value for document in documents("**/*.yaml") for value in values(document, PORT_KEYS)} <= known


def test_prometheus_is_told_the_metrics_ports() -> None:
    for service, variable in (("gateway", "GATEWAY_METRICS_PORT"), ("onnx-svc", "ONNX_SVC_METRICS_PORT")):
        found = [value for one in documents(f"base/{service}.yaml") for value in values(one, ("prometheus.io/port",))]
        assert found == [ENVIRONMENT[variable]]


def test_images_are_those_that_are_built_with_the_tag_of_env() -> None:
    named = {value for document in documents("**/*.yaml") for value in values(document, ("image",))}
    kustomizations = [one for one in documents("**/kustomization.yaml") if "images" in one]
    listed = [image for one in kustomizations for image in one["images"]]
    ours = {f"servepath/{image.repository}" for image in IMAGES.values()}
    assert {name for name in named if name.startswith("servepath/")} <= ours
    assert {image["newTag"] for image in listed} == {ENVIRONMENT["SERVEPATH_TAG"]}


def test_the_gpu_overlay_takes_the_tag_of_the_images_with_cuda() -> None:
    (overlay,) = documents("overlays/gpu/kustomization.yaml")
    (generator,) = overlay["configMapGenerator"]
    assert generator["literals"] == [f"gpu={tag('onnx_svc-gpu', ENVIRONMENT).partition(':')[2]}"]


def test_the_gpu_overlay_leaves_the_tag_of_what_has_no_image_with_cuda() -> None:
    (overlay,) = documents("overlays/gpu/kustomization.yaml")
    (target,) = overlay["replacements"][0]["targets"]
    base = [one for one in documents("base/*.yaml") if isinstance(one, dict) and one["kind"] == "Deployment"]
    changed = {one["metadata"]["name"] for one in base} - {one["name"] for one in target["reject"]}
    with_cuda = [stack for stack in STACKS.values() if any(image.cuda for image in stack.images)]
    assert changed == {stack.service.replace("_", "-") for stack in with_cuda}


def test_pods_run_as_the_images_user() -> None:
    users = {
        user
        for path in (ROOT / "deploy/images").glob("*.Dockerfile")
        for user in re.findall(r"(?m)^USER (\d+):", path.read_text())
    }
    found = {value for one in documents("**/*.yaml") for value in values(one, ("runAsUser", "runAsGroup", "fsGroup"))}
    found |= {op["value"]["runAsUser"] for op in next(documents("base/deployment.yaml")) if "runAsUser" in str(op)}
    assert {str(value) for value in found} == users


def without_tmp(pods: list[Any]) -> list[str]:
    """Return the images that need a /tmp and get none: the native listener keeps a socket there, Python much else."""
    containers = [one for pod in pods for one in pod.get("initContainers", []) + pod["containers"]]
    return [
        one["image"]
        for one in containers
        if one["image"] != "servepath/tf_svc" and "/tmp" not in {mount["mountPath"] for mount in one["volumeMounts"]}  # noqa: S108
    ]


def test_every_container_of_ours_on_a_read_only_file_system_has_a_tmp() -> None:
    base = [one["spec"]["template"]["spec"] for one in documents("base/*-svc.yaml") if one["kind"] == "Deployment"]
    base += [one["spec"]["template"]["spec"] for one in documents("base/gateway.yaml") if one["kind"] == "Deployment"]
    kserve = [one["spec"] for one in documents("base/kserve/*.yaml") if one.get("kind") == "ServingRuntime"]
    assert (len(base), len(kserve), without_tmp(base + kserve)) == (5, 3, [])


def test_a_container_without_a_tmp_is_found() -> None:
    pod = {"containers": [{"image": "servepath/gateway", "volumeMounts": [{"mountPath": "/models"}]}]}
    assert without_tmp([pod]) == ["servepath/gateway"]


def test_the_gateway_may_write_its_state() -> None:
    (gateway,) = containers("base/gateway.yaml")
    mounts = {mount["mountPath"]: mount for mount in gateway["volumeMounts"]}
    assert "readOnly" not in mounts[gateway["args"][gateway["args"].index("--state") + 1]]


@pytest.mark.parametrize("service", sorted(OPEN.keys() - {"gateway"}))
def test_every_server_has_a_name_for_all_its_pods(service: str) -> None:
    services = {
        one["metadata"]["name"]: one["spec"] for one in documents(f"base/{service}.yaml") if one["kind"] == "Service"
    }
    assert services[f"{service}-pods"] == services[service] | {"clusterIP": "None"}


EXPORTED = frozenset(
    name
    for source in ("services/gateway/metrics.py", "services/oip_server/metrics.py")
    for name in re.findall(
        r'"((?:servepath|onnx_svc)_[a-z_]+)"', (ROOT / source).read_text().replace('f"{service}_', '"onnx_svc_')
    )
)
METRIC = re.compile(
    r"\b(?:servepath|onnx_svc)_(?:requests|rows|in_flight|queued?|path|batch|model|merging|gateway_o|request_d|backend_d|"
    r"fallbacks|retries|ejections|replicas|deployments|reloads|shadow)\w*"
)


def unknown_metrics(text: str) -> set[str]:
    """Return the metrics in a text that no service exports."""
    return {name for name in METRIC.findall(text) if re.sub(r"_(total|bucket|sum|count)$", "", name) not in EXPORTED}


@pytest.mark.parametrize("name", ["docs/operate.md", "deploy/k8s/components/autoscale/adapter-rules.yaml"])
def test_every_metric_that_is_named_is_exported(name: str) -> None:
    text = (ROOT / name).read_text()
    assert METRIC.search(text)
    assert unknown_metrics(text) == set()


def test_a_metric_that_nobody_exports_is_found() -> None:
    assert unknown_metrics("`servepath_requests_total` and `servepath_queued_calls`") == {"servepath_queued_calls"}


def test_the_runbook_has_a_chapter_for_every_alert_and_no_other() -> None:
    (rules,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    chapters = (ROOT / "docs/operate.md").read_text().partition("\n## Alerts\n")[2]
    assert re.findall(r"^### (\w+)$", chapters, re.MULTILINE) == [rule["alert"] for rule in rules["rules"]]


DELETED = re.compile(r"kubectl (?:-n \w+ )?delete ([a-z]+)((?: [a-z][\w-]*)+)")


def test_what_the_documents_delete_is_there() -> None:
    texts = [path.read_text() for path in ROOT.glob("docs/*.md")]
    named = {(kind, name) for text in texts for kind, names in DELETED.findall(text) for name in names.split()}
    found = [one for one in documents("**/*.yaml") if isinstance(one, dict) and "metadata" in one]
    assert named
    assert named - {(one["kind"].lower(), one["metadata"]["name"]) for one in found} == set()


def test_the_autoscaler_asks_for_what_the_adapter_offers() -> None:
    (rules,) = documents("components/autoscale/adapter-rules.yaml")
    offered = {rule["name"]["as"] for rule in rules["rules"]}
    scalers = list(documents("components/autoscale/hpa.yaml"))
    assert {metric["pods"]["metric"]["name"] for one in scalers for metric in one["spec"]["metrics"]} == offered
    readers = [
        one for one in documents("components/autoscale/adapter.yaml") if "custom-metrics-reader" in str(one["metadata"])
    ]
    assert {name.removeprefix("pods/") for name in readers[0]["rules"][0]["resources"]} == offered


def containers(pattern: str) -> Iterator[Mapping[str, Any]]:
    """Yield every container in these manifests."""
    for document in documents(pattern):
        for found in _under(document, ("containers", "initContainers")):
            yield from found


def _under(tree: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if key in keys:
            yield value
        yield from _under(value, keys)


def understand(image: str, argv: list[str]) -> None:
    """Read a container's words as its program does. SystemExit when it would not understand them."""
    match image.removeprefix("servepath/"), argv:
        case "gateway", _:
            gateway_config.read_settings(argv)
        case "onnx_svc", _:
            onnx_config.read_settings(argv)
        case "litert_svc", _:
            litert_config.read_settings(argv)
        case "torch_svc", _:
            torch_config.read_settings(argv)
        case "pipeline", ["training", *rest]:
            training_main.parse_args(rest)
        case "pipeline", ["export", *rest]:
            export_main.parse_args(rest)
        case "loadtest", ["loadtest", *rest]:
            given = [re.sub(r"\$\((\w+)\)", lambda found: settings().get(found[1], "10.0.0.1"), word) for word in rest]
            loadtest_main.argument_parser().parse_args(given)
        case "loadtest", ["report", _]:
            pass  # a run's folder
        case _:
            raise AssertionError(f"nobody knows what {image} does with {argv}")


@pytest.fixture
def as_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, and no variables of ours but those of the manifests."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("as_in_a_pod")
def test_every_program_understands_what_its_container_is_told() -> None:
    told = [found for found in containers("**/*.yaml") if "args" in found and found["image"].startswith("servepath/")]
    assert {found["image"].removeprefix("servepath/") for found in told} == {
        "gateway",
        "onnx_svc",
        "litert_svc",
        "torch_svc",
        "pipeline",
        "loadtest",
    }
    for container in told:
        understand(container["image"], container["args"])


@pytest.mark.usefixtures("as_in_a_pod")
@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("gateway", ["--hosts", "all"]),
        ("torch_svc", ["--no-tokens"]),
        ("loadtest", ["loadtest", "--target=gateway=$(GATEWAY_ADDRESS)"]),
        ("pipeline", ["export", "--to", "/models"]),
    ],
)
def test_words_that_a_program_does_not_know_are_found(image: str, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        understand(f"servepath/{image}", words)


@pytest.mark.usefixtures("as_in_a_pod")
def test_without_the_manifests_settings_a_service_would_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNX_SVC_PORT", "tcp://10.0.0.7:8001")  # what service links would make of it
    with pytest.raises(SettingsError, match="ONNX_SVC_PORT"):
        onnx_config.read_settings([])


def asking_torch_svc(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the probes, at any depth, that ask every model of TorchServe."""
    if isinstance(tree, dict):
        if torch_healthcheck.__name__ in tree.get("exec", {}).get("command", ()):
            yield tree
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else ():
        yield from asking_torch_svc(part)


def test_every_probe_gives_a_model_the_same_time_and_containers_give_torch_svc_more() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["torch_svc"]["healthcheck"]
    given = [
        probe["timeoutSeconds"] for document in documents("base/**/*.yaml") for probe in asking_torch_svc(document)
    ]
    assert len(given) >= 3  # startup and readiness, and KServe's
    assert min(*given, int(compose["timeout"].removesuffix("s"))) > torch_healthcheck.PREDICTION_S
    assert {torch_healthcheck.PREDICTION_S, torch_probe.TIMEOUT_S, probes.CALL_S, gateway_probe.PROOF_TIMEOUT_S} == {15}
