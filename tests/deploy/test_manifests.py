"""The overlays are what Kubernetes takes, keep our rules, and are found out when they do not."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.rendering import KEEPER, RENDERED, Document, RenderError, ours, render, title
from tests.deploy.rules import (
    RULES,
    Rule,
    bounded,
    graceful,
    only_what_is_needed_is_open,
    probed,
    restricted,
    services_reach_pods,
    spread_and_budgeted,
    strangers_to_the_api,
    what_is_needed_is_open,
)
from tests.deploy.schemas import authority, faults

BROKEN = Path(__file__).parent / "broken"
PROMOTION = Path(__file__).parent / "promotion"
CLUSTER_WIDE = {"Namespace", "APIService", "ClusterRole", "ClusterRoleBinding"}


@pytest.mark.parametrize("name", RENDERED)
def test_an_overlay_renders_and_every_document_is_valid(name: str, say: list[str]) -> None:
    documents = ours(name)
    assert [fault for document in documents for fault in faults(document)] == []
    for judge, count in Counter(map(authority, documents)).items():
        say.append(f"deploy/k8s/{name}: {count} documents valid by {judge}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong-type", "Deployment/gateway: spec.replicas: 'two' is not of type 'integer'"),
        ("unknown-probe-key", "('periodSecond' was unexpected)"),
        ("missing-selector", "Deployment/gateway: spec: 'selector' is a required property"),
    ],
)
def test_a_broken_overlay_renders_and_is_not_valid(name: str, said: str) -> None:
    (fault,) = [fault for document in render(BROKEN / name) for fault in faults(document)]
    assert said in fault


def test_what_cannot_be_rendered_is_said(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n")
    with pytest.raises(RenderError, match=r"gone\.yaml"):
        render(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("ServingRuntime", lambda spec: spec["containers"][0].update(name="onnx"), "'kserve-container' was expected"),
        ("ServingRuntime", lambda spec: spec["containers"][0]["readinessProbe"].update(periodSecond=5), "periodSecond"),
        ("ServingRuntime", lambda spec: spec.pop("containers"), "'containers' is a required property"),
        (
            "InferenceService",
            lambda spec: spec["predictor"].update(minReplicas="two"),
            "'two' is not of type 'integer'",
        ),
        (
            "InferenceService",
            lambda spec: spec["predictor"]["model"].update(modelFormat="onnx"),
            "'onnx' is not of type",
        ),
        ("InferenceService", lambda spec: spec["predictor"].update(replicas=2), "'replicas' was unexpected"),
    ],
)
def test_our_subset_of_kserves_schemas_finds_mistakes(kind: str, change: Callable[[Any], object], said: str) -> None:
    document = next(found for found in ours("overlays/kserve") if found["kind"] == kind)
    assert list(faults(document)) == []
    change(document["spec"])
    (fault,) = faults(document)
    assert said in fault


def test_a_kind_that_nobody_knows_is_not_valid() -> None:
    document = {"apiVersion": "v1", "kind": "Wish", "metadata": {"name": "x"}}
    assert "Couldn't find schema" in next(faults(document))


@pytest.mark.parametrize("name", [name for name in RENDERED if name != KEEPER])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_an_overlay_keeps_the_rule(name: str, rule: Rule) -> None:
    assert list(rule(ours(name))) == []


def test_every_document_of_a_namespace_says_which() -> None:
    documents = [document for name in RENDERED for document in ours(name)] + render(PROMOTION)
    inside = [document for document in documents if document["kind"] not in CLUSTER_WIDE]
    assert [title(document) for document in inside if not document["metadata"].get("namespace")] == []


def test_a_gateway_that_promotes_is_alone_and_keeps_how_far_it_is() -> None:
    documents = render(PROMOTION)
    assert [fault for document in documents for fault in faults(document)] == []
    assert [fault for rule in RULES for fault in rule(documents)] == []
    spec = of(documents, "Deployment/gateway")["spec"]
    (state,) = [volume for volume in pod(documents, "gateway")["volumes"] if volume["name"] == "state"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert state == {"name": "state", "persistentVolumeClaim": {"claimName": "gateway-state"}}
    assert of(documents, "PersistentVolumeClaim/gateway-state")


def test_the_keeper_is_as_closed_as_the_rest() -> None:
    assert [fault for rule in (restricted, strangers_to_the_api, bounded) for fault in rule(ours(KEEPER))] == []


def of(documents: Sequence[Document], wanted: str) -> Any:
    """Return a document by kind and name."""
    return next(document for document in documents if title(document) == wanted)


def pod(documents: Sequence[Document], name: str) -> Any:
    """Return a Deployment's pod spec."""
    return of(documents, f"Deployment/{name}")["spec"]["template"]["spec"]


def container(documents: Sequence[Document], name: str) -> Any:
    """Return a Deployment's container."""
    return pod(documents, name)["containers"][0]


Change = Callable[[list[Document]], object]
BREAKS: list[tuple[Rule, Change, str]] = [
    (restricted, lambda d: pod(d, "gateway").pop("securityContext"), "the pod's securityContext is {}"),
    (
        restricted,
        lambda d: container(d, "tf-svc")["securityContext"].update(privileged=True, capabilities={}),
        "tf-svc",
    ),
    (restricted, lambda d: pod(d, "gateway")["volumes"].append({"name": "h", "hostPath": {}}), "of another kind"),
    (restricted, lambda d: of(d, "Namespace/servepath")["metadata"].pop("labels"), "does not enforce restricted"),
    (strangers_to_the_api, lambda d: pod(d, "onnx-svc").pop("enableServiceLinks"), "gets service links"),
    (
        strangers_to_the_api,
        lambda d: pod(d, "onnx-svc").pop("automountServiceAccountToken"),
        "a service account's token",
    ),
    (probed, lambda d: container(d, "torch-svc").pop("readinessProbe"), "torch-svc: no readinessProbe"),
    (probed, lambda d: container(d, "torch-svc").update(livenessProbe={}), "liveness is for the gateway alone"),
    (probed, lambda d: container(d, "gateway").pop("livenessProbe"), "liveness is for the gateway alone"),
    (graceful, lambda d: container(d, "gateway").pop("lifecycle"), "no preStop"),
    (graceful, lambda d: pod(d, "gateway").update(terminationGracePeriodSeconds=30), "is killed before"),
    (bounded, lambda d: container(d, "gateway")["resources"]["limits"].pop("memory"), "resources lack ['memory']"),
    (bounded, lambda d: pod(d, "tf-svc")["volumes"].append({"name": "x", "emptyDir": {}}), "x has no sizeLimit"),
    (spread_and_budgeted, lambda d: pod(d, "gateway").pop("topologySpreadConstraints"), "is not spread"),
    (spread_and_budgeted, lambda d: d.remove(of(d, "PodDisruptionBudget/tf-svc")), "no PodDisruptionBudget"),
    (
        services_reach_pods,
        lambda d: of(d, "Service/gateway")["spec"]["selector"].update(x="y"),
        "no pod has port 50051",
    ),
    (
        services_reach_pods,
        lambda d: of(d, "Service/tf-svc")["spec"]["ports"][0].update(targetPort=1),
        "no pod has port 1",
    ),
    (only_what_is_needed_is_open, lambda d: d.remove(of(d, "NetworkPolicy/deny-all")), "no policy that denies all"),
    (only_what_is_needed_is_open, lambda d: d.remove(of(d, "NetworkPolicy/onnx-svc")), "onnx-svc, which does not"),
    (
        only_what_is_needed_is_open,
        lambda d: of(d, "NetworkPolicy/tf-svc")["spec"].update(egress=[{"to": [], "ports": []}]),
        "gives Deployment/tf-svc a way out",
    ),
    (
        what_is_needed_is_open,
        lambda d: of(d, "NetworkPolicy/gateway")["spec"]["egress"].pop(0),
        "gateway: has no way out to Service/torch-svc",
    ),
    (
        what_is_needed_is_open,
        lambda d: of(d, "NetworkPolicy/gateway")["spec"]["egress"].pop(),
        "gateway: has no way out to DNS",
    ),
]


@pytest.mark.parametrize(("rule", "change", "said"), BREAKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_manifest_that_breaks_the_rule_is_found(rule: Rule, change: Change, said: str) -> None:
    documents = ours("overlays/cpu")
    change(documents)
    assert said in "\n".join(rule(documents))


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BREAKS} == set(RULES)
