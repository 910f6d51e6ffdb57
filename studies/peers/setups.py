"""The servers of each setup: ours by their ordinary command lines, the peers at their best; every one on its cores."""

import sys
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from servepath.artifacts.reference import Reference
from servepath.cli.children import Process
from servepath.cli.free_ports import free_ports
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.probes import WrongAnswer
from servepath.protocols.stacks import STACKS, TORCH_TOKEN, external_stack
from servepath.protocols.token import TokenFile
from studies.peers import peers
from studies.peers.processes import ServerFailed, Servers
from studies.peers.rows import SMALL
from studies.peers.static import Static
from studies.peers.ways import GATEWAY_VARYING_BYTES, Way

DEPLOYMENTS = Path("deployments.toml")
UNMERGED: Mapping[str, int] = MappingProxyType({"max_merge_rows": 1})
NO_LIMITS: Mapping[str, int] = MappingProxyType({})
# A second stack, the same server: it gets calls when the first cannot answer, and one in 10,000 of them as a shadow.
IDLE = "idle"
POLICIES = f"""fallback = ["{IDLE}"]
[models.{{model}}.weights]
{{stack}} = 100
{IDLE} = 0
[models.{{model}}.shadow]
stack = "{IDLE}"
percent = 0.01
[models.{{model}}.stacks.{IDLE}]"""


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where.

    front: the server that is measured. back: load and backend. all: for servers of many processes.
    """

    front: str
    back: str
    all: str

    @classmethod
    def of(cls, cores: Collection[int]) -> "Cores":
        """Assign the cores; a single one is shared by all."""
        first, last = min(cores), max(cores)
        return cls(str(first), str(last), ",".join(map(str, sorted(cores))))


@dataclass(frozen=True, slots=True)
class Workspace:
    """What setups need: models' folder, a folder of our own, cores, peers by name, references by model (SMALL first).

    tuned: folders with a tuned TorchServe archive, by the way that runs it.
    """

    exports: Path
    folder: Path
    cores: Cores
    peers: Mapping[str, peers.Peer]
    references: Mapping[str, Reference]
    tuned: Mapping[str, Path]


class Setup:
    """Running servers: `ways` to ask them by name; `missing` says why a way is not there."""

    def __init__(self, place: Workspace, servers: Servers, wanted: Collection[str]) -> None:
        self.place = place
        self.ways: dict[str, Way | Static] = {}
        self.missing: dict[str, str] = {}
        self._servers = servers
        self._wanted = wanted

    def add(self, name: str, start: Callable[[], Way | Static]) -> None:
        """Start one way, if a row wants it."""
        if name in self._wanted:
            try:
                self.ways[name] = start()
            except ServerFailed as failure:
                self.missing[name] = str(failure)

    def ours(self, service: str, options: Collection[str], cores: str, **environment: str) -> Process:
        """Start `python -m services.SERVICE`."""
        return self._servers.start(service, [sys.executable, "-m", f"services.{service}", *options], cores, environment)

    def onnx_svc(self, cores: str, *options: str) -> Way:
        """Start onnx_svc."""
        port, metrics = free_ports(2)
        ports = ("--port", str(port), "--metrics-port", str(metrics))
        process = self.ours("onnx_svc", ("--models", str(self.place.exports), *ports, *options), cores)
        return self._ready("onnx_svc", Way(loopback(port), process, STACK_CODECS["onnx"], metrics_port=metrics))

    def gateway(
        self,
        cores: str,
        address: str,
        *options: str,
        stack: str = "onnx",
        limits: Mapping[str, int] = NO_LIMITS,
        policies: bool = False,
    ) -> Way:
        """Start a gateway to the server of `stack` at an address, with the repository's limits but for those given.

        policies: it has weights, a fallback and a shadow, all of them idle, and is asked for the model alone.
        """
        port, metrics = free_ports(2)
        file = self.place.folder / f"{port}.toml"
        references = self.place.references
        models = [one.model for one in references.values()] if stack == "onnx" else [references[SMALL].model]
        file.write_text(
            deployments(tomllib.loads(DEPLOYMENTS.read_text()), models, stack, limits, POLICIES if policies else "")
        )
        words = ("--deployments", str(file), "--exports", str(self.place.exports), "--port", str(port))
        more = {STACKS[stack].address_variable: address, external_stack(IDLE).address_variable: address}
        more |= {TORCH_TOKEN.variable: str(self._token_file(address))}
        process = self.ours("gateway", (*words, "--metrics-port", str(metrics), *options), cores, **more)
        codec = STACK_CODECS["onnx"]
        asked = "{}" if policies else f"{{}}@{stack}"
        way = Way(loopback(port), process, codec, asked, metrics, varying=GATEWAY_VARYING_BYTES)
        return self._ready("gateway", way)

    def envoy(self, cores: str, backend: Way) -> Way:
        """Start Envoy with one worker in front of a backend."""
        (port,) = free_ports(1)
        file = self.place.folder / f"{port}.yaml"
        file.write_text(peers.envoy_config(port, int(backend.address.rpartition(":")[2])))
        words = [
            self._peer("envoy"),
            "-c",
            str(file),
            "--concurrency",
            "1",
            "--log-level",
            "error",
            "--use-dynamic-base-id",
        ]
        process = self._servers.start("envoy", words, cores)
        return self._ready("envoy", Way(loopback(port), process, backend.codec, metrics_port=backend.metrics_port))

    def nghttpd(self, cores: str) -> Static:
        """Start nghttpd with one worker, serving a file as large as onnx_svc's replies."""
        program, (port,) = self._peer("nghttpd"), free_ports(1)
        file = self.place.folder / "static" / "file"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(256))
        words = [program, "--no-tls", "-a", "127.0.0.1", "-n", "1", "-d", str(file.parent), str(port)]
        static = Static(loopback(port), self._servers.start("nghttpd", words, cores), file)
        self._servers.wait("nghttpd", static.process, static.unready)
        return static

    def torch_svc(self, cores: str, exports: Path) -> Way:
        """Start TorchServe under its supervisor."""
        (port,) = free_ports(1)
        address = loopback(port)
        run_dir = self._token_file(address).parent
        loopback_ports = [one.variable for one in STACKS["torchserve"].ports if one.loopback]
        ports = dict(zip(loopback_ports, map(str, free_ports(len(loopback_ports))), strict=True))
        options = ("--models", str(exports), "--port", str(port), "--run-dir", str(run_dir))
        more = ports | {TORCH_TOKEN.variable: str(run_dir / TORCH_TOKEN.name)}
        process = self.ours("torch_svc", options, cores, **more)
        metadata = TokenFile(run_dir / TORCH_TOKEN.name).metadata
        return self._ready("torch_svc", Way(address, process, STACK_CODECS["torchserve"], "{}", metadata=metadata))

    def _token_file(self, address: str) -> Path:
        return self.place.folder / f"torch-{address.rpartition(':')[2]}" / TORCH_TOKEN.name

    def _peer(self, name: str) -> str:
        peer = self.place.peers[name]
        if not peer.path:
            raise ServerFailed(peer.why)
        return peer.path

    def _ready(self, name: str, way: Way) -> Way:
        def unready() -> str:
            try:
                way.sample(self.place.references[SMALL])
            except WrongAnswer as wrong:
                return str(wrong)
            return ""

        self._servers.wait(name, way.process, unready)
        return way


def proxy(setup: Setup) -> None:
    """Set up gateway or Envoy alone on one core, onnx_svc and the load on the other."""
    cores = setup.place.cores
    backend = setup.onnx_svc(cores.back)
    setup.add("direct", lambda: backend)
    setup.add("gateway", lambda: setup.gateway(cores.front, backend.address))
    setup.add("gateway, unmerged", lambda: setup.gateway(cores.front, backend.address, limits=UNMERGED))
    setup.add("gateway, policies", lambda: setup.gateway(cores.front, backend.address, policies=True))
    setup.add("gateway, grpcio", lambda: setup.gateway(cores.front, backend.address, "--front", "grpcio"))
    setup.add("envoy", lambda: setup.envoy(cores.front, backend))


def onnx(setup: Setup) -> None:
    """Set up onnx_svc or nghttpd alone on one core, the load on the other."""
    cores = setup.place.cores
    setup.add("onnx_svc", lambda: setup.onnx_svc(cores.front))
    setup.add("onnx_svc, grpcio", lambda: setup.onnx_svc(cores.front, "--front", "grpcio"))
    setup.add("nghttpd", lambda: setup.nghttpd(cores.front))


def torchserve(setup: Setup) -> None:
    """Set up TorchServe, gateway and load on all cores; direct load uses the best tuning for it."""
    place = setup.place
    behind = setup.torch_svc(place.cores.all, place.exports)
    setup.add("gateway", lambda: setup.gateway(place.cores.all, behind.address, stack="torchserve"))
    for name, exports in place.tuned.items():
        setup.add(name, partial(setup.torch_svc, place.cores.all, exports))


def workers(setup: Setup) -> None:
    """Set up onnx_svc with several processes on all cores, and the load on the same ones."""
    for name, number in (("1 worker", "1"), ("2 workers", "2"), ("4 workers", "4")):
        setup.add(name, partial(setup.onnx_svc, setup.place.cores.all, "--workers", number))


SETUPS: Mapping[str, Callable[[Setup], None]] = MappingProxyType(
    {"proxy": proxy, "onnx": onnx, "torchserve": torchserve, "workers": workers}
)


def deployments(
    given: Mapping[str, Any], models: Sequence[str], stack: str, limits: Mapping[str, int], policies: str = ""
) -> str:
    """Return a deployments.toml of these models on one stack, with the first's limits and the gateway's as given."""
    own = {**given["models"][models[0]]["stacks"][stack], **limits}
    lines = [f'[servers.{IDLE}]\nprotocol = "oip"'] if policies else []
    lines += ["[gateway]", *(f"{key} = {value}" for key, value in given.get("gateway", {}).items())]
    for model in models:
        lines += [f"[models.{model}]", f'default = "{stack}"', policies.format(model=model, stack=stack)]
        lines += [f"[models.{model}.stacks.{stack}]"]
        lines += [f"{key} = {value}" for key, value in own.items()]
    return "\n".join(lines) + "\n"


def loopback(port: int) -> str:
    """Return the loopback address of a port."""
    return f"127.0.0.1:{port}"
