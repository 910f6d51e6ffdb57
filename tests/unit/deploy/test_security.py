"""Every rule of the containers is seen to find what it looks for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deploy.e2e.security import RULES, Container, faults

STATUS = "Name:\tpython\nUid:\t65532\t65532\t65532\t65532\nCapPrm:\t{0}\nCapEff:\t{0}\nCapBnd:\t{0}\nNoNewPrivs:\t1\n"
STATUS = STATUS.format("0" * 16)
INSPECTED: dict[str, Any] = {
    "HostConfig": {
        "ReadonlyRootfs": True,
        "Tmpfs": {"/scratch": "size=16m"},
        "Memory": 2**29,
        "NanoCpus": 10**9,
        "PidsLimit": 64,
        "Ulimits": [{"Name": "nofile", "Soft": 8192, "Hard": 8192}],
        "Privileged": False,
        "NetworkMode": "servepath_to_onnx_svc",
        "PidMode": "",
        "IpcMode": "private",
        "UTSMode": "",
        "PortBindings": {},
    },
    "Mounts": [
        {"Source": "/srv/exports", "Destination": "/models", "RW": False},
        {"Source": "/var/lib/docker/volumes/tokens", "Destination": "/run/tokens", "RW": True},
    ],
}
WRITABLE = ("/scratch", "/dev/mqueue", "/run/tokens")


def container(change: Callable[[dict[str, Any]], object] = lambda _: None, **changed: Any) -> Container:
    inspected = copy.deepcopy(INSPECTED)
    change(inspected)
    whole = Container("onnx_svc", inspected, STATUS, WRITABLE, escapes=False, published=False)
    return whole._replace(**changed)


def host(**changed: Any) -> Container:
    return container(lambda inspected: inspected["HostConfig"].update(changed))


def published(address: str) -> dict[str, list[dict[str, str]]]:
    return {"50051/tcp": [{"HostIp": address, "HostPort": "50051"}]}


def models_writable(inspected: dict[str, Any]) -> None:
    inspected["Mounts"][0]["RW"] = True


def with_socket(inspected: dict[str, Any]) -> None:
    inspected["Mounts"].append({"Source": "/var/run/docker.sock", "Destination": "/x", "RW": False})


def test_a_container_as_it_should_be_has_no_fault() -> None:
    assert faults(container()) == []
    gateway = container(lambda inspected: inspected["HostConfig"].update(PortBindings=published("127.0.0.1")))
    assert faults(gateway._replace(published=True, escapes=True)) == []


BROKEN = [
    (container(status=STATUS.replace("65532", "0")), "S13: it runs as uid 0 0 0 0"),
    (container(status=STATUS.replace("65532\t", "0\t", 1)), "S13: it runs as uid 0 65532 65532 65532"),
    (container(status=""), "S13: it runs as uid unknown"),
    (container(status=STATUS.replace("CapEff:\t0", "CapEff:\t1")), f"S14: CapEff is 1{'0' * 15}"),
    (container(status=STATUS.replace("CapBnd:\t0", "CapBnd:\ta")), f"S14: CapBnd is a{'0' * 15}"),
    (container(status=STATUS.replace("Privs:\t1", "Privs:\t0")), "S15: no-new-privileges is not set"),
    (container(writable=(*WRITABLE, "/")), "S16: it can write to /"),
    (container(writable=(*WRITABLE, "/models")), "S16: it can write to /models"),
    (host(ReadonlyRootfs=False), "S16: its root file system is not read-only"),
    (container(models_writable), "S17: it can change the models"),
    (host(Memory=0), "S18: there is no limit Memory"),
    (host(NanoCpus=0), "S18: there is no limit NanoCpus"),
    (host(PidsLimit=None), "S18: there is no limit PidsLimit"),
    (host(PidsLimit=-1), "S18: there is no limit PidsLimit"),
    (host(Ulimits=None), "S18: file descriptors have no limit"),
    (host(Privileged=True), "S19: it is privileged"),
    (host(NetworkMode="host"), "S19: NetworkMode is the host's"),
    (host(PidMode="host"), "S19: PidMode is the host's"),
    (container(with_socket), "S19: it has the engine's socket"),
    (host(PortBindings=published("127.0.0.1")), "S05: it is published: 50051/tcp"),
    (host(PortBindings=published(""))._replace(published=True), "S05: 50051/tcp is published on every address"),
    (container(escapes=True), "S11: it reaches addresses beyond its network"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_what_it_must_not_have_is_found(broken: Container, said: str) -> None:
    assert f"onnx_svc: {said}" in faults(broken)


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule in RULES for broken, _ in BROKEN if list(rule(broken))} == set(RULES)
