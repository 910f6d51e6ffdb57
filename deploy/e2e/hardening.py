"""What containers must and must not have: asked of the engine, of them and of their neighbour."""

import socket
from collections.abc import Iterator

from deploy.compose import Project
from deploy.e2e import security
from deploy.e2e.environment import GATEWAYS, SERVICES, Environment
from deploy.engine import EngineError

CONNECT_S = 2
# Tries to connect to every port of a host and prints those that somebody listens on.
SCAN = """
import socket, sys
host = socket.gethostbyname(sys.argv[1])
for port in range(1, 65536):
    with socket.socket() as probe:
        probe.settimeout(1)
        if not probe.connect_ex((host, port)):
            print(port)
"""


def secure(environment: Environment) -> Iterator[str]:
    """Check every container against the rules, and scan for open ports from their only neighbour, the gateway."""
    project = environment.project
    outside = _outside(project)
    containers = [_look(project, service, outside) for service in SERVICES]
    faults = [fault for container in containers for fault in security.faults(container)]
    if not any(container.escapes for container in containers):
        faults += ["S11 is inconclusive: not even the gateway reaches itself on its other network"]
    faults += [*_open_ports(project), *_leaked_keys(project)]
    if faults:
        raise EngineError("; ".join(faults))
    rules = f"{len(security.RULES)} rules (S05, S11, S13-S19)"
    yield f"{rules} hold in {len(containers)} containers; open ports (S04) and keys (S03) are as expected"


def _outside(project: Project) -> tuple[str, str]:
    """Return the gateway's address and port on the network without backends, where this machine reaches it."""
    networks = project.inspect("gateway")["NetworkSettings"]["Networks"]
    host = networks[f"{project.name}_front"]["IPAddress"]
    port = project.model()["services"]["gateway"]["environment"]["GATEWAY_PORT"]
    socket.create_connection((host, int(port)), CONNECT_S).close()
    return host, port


def _look(project: Project, service: str, outside: tuple[str, str]) -> security.Container:
    connect = f"timeout {CONNECT_S} bash -c '</dev/tcp/{outside[0]}/{outside[1]}' 2>/dev/null && echo reached; true"
    return security.Container(
        service,
        project.inspect(service),
        project.execute(service, "cat", "/proc/1/status"),
        project.execute(service, "sh", "-c", security.PROBE).splitlines(),
        escapes="reached" in project.execute(service, "bash", "-c", connect),
        published=service in GATEWAYS,
    )


def _open_ports(project: Project) -> Iterator[str]:
    """Check S04: of each backend only the ports that the gateway and Prometheus need are open."""
    services = project.model()["services"]
    gateway, onnx_svc = (services[name]["environment"] for name in ("gateway", "onnx_svc"))
    expected: dict[str, set[str]] = {
        "torch_svc": {_port(gateway["TORCH_SVC_ADDR"])},
        "tf_svc": set(),  # a socket, in a volume that only the gateway and the load test mount
        "onnx_svc": {_port(gateway["ONNX_SVC_ADDR"]), onnx_svc["ONNX_SVC_METRICS_PORT"]},
    }
    for service, ports in expected.items():
        found = set(project.execute("gateway", "python", "-c", SCAN, service, timeout_s=120).split())
        if found != ports:
            said, wanted = (", ".join(sorted(some)) or "nothing" for some in (found, ports))
            yield f"{service}: S04: listens on {said}, not {wanted}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _leaked_keys(project: Project) -> Iterator[str]:
    """Check S03: TorchServe's key is in the shared file alone."""
    key = project.execute("torch_svc", "cat", "/run/tokens/token")
    for service in SERVICES:
        log = project.ask("logs", "--no-color", service)
        settings = project.docker("inspect", project.container(service))
        for place, text in (("log", log), ("settings", settings)):
            if not key or key in text:
                yield f"{service}: S03: the key is in its {place}"
