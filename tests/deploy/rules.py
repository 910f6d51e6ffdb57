"""What every overlay keeps, beyond what a schema can say: each rule gives a line for each fault."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.rendering import ROOT, Document, title

# Read as text: these modules import packages that this environment lacks.
CLOSING = (
    ("services/dataplane/health.py", "SET_S"),
    ("services/dataplane/health.py", "SET_S"),
    ("services/dataplane/data_plane.py", "MAX_LINGER_S"),
    ("services/gateway/server.py", "CLOSE_GRACE_S"),
    ("services/dataplane/native_listener.py", "FLUSH_S"),
    ("services/gateway/tracing.py", "STOP_S"),
)


def constant(file: str, name: str) -> float:
    """Return a module's constant, a number."""
    found = re.search(rf"^{name} = ([\d.]+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert found is not None, f"{file} has no {name}"
    return float(found[1])


# What a gateway may take to end beside the drain: health's entries are set twice before it.
CLOSING_S = sum(constant(file, name) for file, name in CLOSING)
DRAIN_S = tomllib.loads((ROOT / "deployments.toml").read_text())["gateway"]["drain_s"]
# Asks the API server who is asking.
NEEDS_ITS_TOKEN = ("prometheus-adapter",)
# Model servers: under overload a liveness probe would kill them for being slow.
BACKENDS = ("torch-svc", "tf-svc", "onnx-svc", "litert-svc")
# Who asks them, by name.
ASKERS = ("gateway", "loadtest")
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim"}


@dataclass(frozen=True)
class Pods:
    """The pods that one document makes. serves: they run until told to stop, behind a Service."""

    owner: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    serves: bool

    @property
    def name(self) -> str:
        return self.labels.get("app.kubernetes.io/name", self.owner)

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def pods(documents: Sequence[Document]) -> Iterator[Pods]:
    """Yield every document's pods; an InferenceService's as KServe makes them of it and of its runtime."""
    runtimes = {found["metadata"]["name"]: found["spec"] for found in documents if found["kind"] == "ServingRuntime"}
    for document in documents:
        spec = document.get("spec", {})
        match document["kind"]:
            case "Deployment" | "Job":
                template = spec["template"]
            case "CronJob":
                template = spec["jobTemplate"]["spec"]["template"]
            case "Pod":
                template = document
            case "InferenceService":
                predictor = spec["predictor"]
                runtime = runtimes[predictor["model"]["runtime"]]
                template = {"metadata": {"labels": predictor["labels"]}, "spec": {**runtime, **predictor}}
            case _:
                continue
        serves = document["kind"] in ("Deployment", "InferenceService")
        yield Pods(title(document), template["metadata"].get("labels", {}), template["spec"], serves)


def restricted(documents: Sequence[Document]) -> Iterator[str]:
    """Pods keep the restricted Pod Security Standard, read-only roots besides, and the namespace enforces it."""
    for pod in pods(documents):
        context = pod.spec.get("securityContext", {})
        if not RESTRICTED_POD.items() <= context.items() or not context.get("runAsUser"):
            yield f"{pod.owner}: the pod's securityContext is {context}"
        for container in pod.containers:
            if not RESTRICTED_CONTAINER.items() <= container.get("securityContext", {}).items():
                yield f"{pod.owner}: {container['name']}: securityContext is {container.get('securityContext')}"
        for volume in pod.spec.get("volumes", ()):
            if not volume.keys() - {"name"} <= VOLUMES:
                yield f"{pod.owner}: volume {volume['name']} is of another kind than {sorted(VOLUMES)}"
    for document in documents:
        if document["kind"] == "Namespace":
            labels = document["metadata"].get("labels", {})
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"{title(document)}: does not enforce restricted"


def strangers_to_the_api(documents: Sequence[Document]) -> Iterator[str]:
    """No pod gets a token of the API server, or variables like ONNX_SVC_PORT=tcp://... that are our settings' names."""
    for pod in pods(documents):
        if pod.spec.get("automountServiceAccountToken") is not False and pod.name not in NEEDS_ITS_TOKEN:
            yield f"{pod.owner}: mounts a service account's token"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner}: gets service links"


def probed(documents: Sequence[Document]) -> Iterator[str]:
    """What serves has a startup and a readiness probe; no model server has a liveness probe."""
    for pod in pods(documents):
        if not pod.serves or pod.name in NEEDS_ITS_TOKEN:
            continue
        for container in pod.spec["containers"]:
            for kind in ("startupProbe", "readinessProbe"):
                if kind not in container:
                    yield f"{pod.owner}: no {kind}"
            if (pod.name in BACKENDS) == ("livenessProbe" in container):
                yield f"{pod.owner}: liveness is for the gateway alone"


def graceful(documents: Sequence[Document]) -> Iterator[str]:
    """What serves is taken off its Service first, and has time for calls in flight."""
    for pod in pods(documents):
        if not pod.serves or pod.name in NEEDS_ITS_TOKEN:
            continue
        for container in pod.spec["containers"]:
            pause_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if pause_s < 1:
                yield f"{pod.owner}: no preStop"
            if pod.spec.get("terminationGracePeriodSeconds", 30) < pause_s + DRAIN_S + CLOSING_S:
                yield f"{pod.owner}: is killed before preStop and draining end"


def bounded(documents: Sequence[Document]) -> Iterator[str]:
    """Every container asks for cpu and memory, and has limits of memory and disk; every emptyDir has a size."""
    for pod in pods(documents):
        for container in pod.containers:
            resources = container.get("resources", {})
            asked, most = resources.get("requests", {}), resources.get("limits", {})
            lacks = {"cpu", "memory"} - asked.keys() | {"memory", "ephemeral-storage"} - most.keys()
            if lacks:
                yield f"{pod.owner}: {container['name']}: resources lack {sorted(lacks)}"
        for volume in pod.spec.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.owner}: volume {volume['name']} has no sizeLimit"


def spread_and_budgeted(documents: Sequence[Document]) -> Iterator[str]:
    """What serves is spread over nodes, and a drain of nodes leaves some of it."""
    budgets = [
        found["spec"]["selector"]["matchLabels"] for found in documents if found["kind"] == "PodDisruptionBudget"
    ]
    for pod in pods(documents):
        if not pod.serves:
            continue
        if not any(budget.items() <= pod.labels.items() for budget in budgets):
            yield f"{pod.owner}: no PodDisruptionBudget selects it"
        spreads = pod.spec.get("topologySpreadConstraints", ())
        if not any(one["labelSelector"]["matchLabels"].items() <= pod.labels.items() for one in spreads):
            yield f"{pod.owner}: is not spread"


def services_reach_pods(documents: Sequence[Document]) -> Iterator[str]:
    """Every Service selects pods, and leads to ports that they name."""
    found = list(pods(documents))
    for document in documents:
        if document["kind"] != "Service":
            continue
        selected = [pod for pod in found if document["spec"]["selector"].items() <= pod.labels.items()]
        ports = {port["containerPort"] for pod in selected for one in pod.containers for port in one.get("ports", ())}
        for port in document["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{title(document)}: no pod has port {port['targetPort']}"


def only_what_is_needed_is_open(documents: Sequence[Document]) -> Iterator[str]:
    """Everything is denied; what a policy lets out another lets in, and model servers have no way out at all."""
    policies = [found for found in documents if found["kind"] == "NetworkPolicy"]
    if not any(one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for one in policies):
        yield "there is no policy that denies all"
    inside = [pod for pod in pods(documents) if pod.name not in NEEDS_ITS_TOKEN]
    for policy in policies:
        for rule in policy["spec"].get("egress", ()):
            for pod in inside:
                if _selects(policy["spec"]["podSelector"], pod.labels):
                    if pod.name in BACKENDS:
                        yield f"{title(policy)}: gives {pod.owner} a way out"
                    yield from _let_in(policy, rule, pod, inside, policies)


def what_is_needed_is_open(documents: Sequence[Document]) -> Iterator[str]:
    """The gateway, and the load test where there is one, get out to every model server's Service and to DNS."""
    services = [one for one in documents if one["kind"] == "Service" and one["metadata"]["name"] in BACKENDS]
    found = list(pods(documents))
    for pod in found:
        if pod.name not in ASKERS:
            continue
        ways = [
            rule
            for policy in documents
            if policy["kind"] == "NetworkPolicy" and _selects(policy["spec"]["podSelector"], pod.labels)
            for rule in policy["spec"].get("egress", ())
        ]
        for service in services:
            wanted = {("TCP", port["targetPort"]) for port in service["spec"]["ports"]}
            behind = next(one.labels for one in found if service["spec"]["selector"].items() <= one.labels.items())
            if not any(_leads_to(way, behind) and wanted <= _ports(way, wanted) for way in ways):
                yield f"{pod.owner}: has no way out to {title(service)}"
        if not any(DNS in way["to"] and {("UDP", 53), ("TCP", 53)} <= _ports(way) for way in ways):
            yield f"{pod.owner}: has no way out to DNS"


def _leads_to(way: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return any("namespaceSelector" not in peer and _selects(peer["podSelector"], labels) for peer in way["to"])


def _ports(way: Mapping[str, Any], every: Iterable[tuple[str, int]] = ()) -> set[tuple[str, int]]:
    """Return the ports that a rule names; one that names none is for `every` port."""
    return {(port["protocol"], port["port"]) for port in way["ports"]} if "ports" in way else set(every)


def _let_in(
    policy: Document, rule: Mapping[str, Any], sender: Pods, inside: Sequence[Pods], policies: Sequence[Document]
) -> Iterator[str]:
    for target in (peer["podSelector"] for peer in rule["to"] if "namespaceSelector" not in peer):
        for receiver in inside:
            if not _selects(target, receiver.labels):
                continue
            wanted = {port for _, port in _ports(rule)}
            has = {port["containerPort"] for one in receiver.containers for port in one.get("ports", ())}
            open_ports = {
                port["port"]
                for other in policies
                if _selects(other["spec"]["podSelector"], receiver.labels)
                for ingress in other["spec"].get("ingress", ())
                if any(_selects(peer.get("podSelector", {}), sender.labels) for peer in ingress["from"])
                for port in ingress["ports"]
            }
            for port in sorted(wanted & has - open_ports):
                yield f"{title(policy)}: lets {sender.owner} out to {receiver.owner}:{port}, which does not let it in"
            if "ports" not in rule and not has & open_ports:
                yield f"{title(policy)}: lets {sender.owner} out to {receiver.owner}, which does not let it in"


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions", ()))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key = expression["key"]
    return key in labels if expression["operator"] == "Exists" else labels.get(key, "") in expression["values"]


Rule = Callable[[Sequence[Document]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    restricted,
    strangers_to_the_api,
    probed,
    graceful,
    bounded,
    spread_and_budgeted,
    services_reach_pods,
    only_what_is_needed_is_open,
    what_is_needed_is_open,
)
