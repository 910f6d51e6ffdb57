"""The one table of stacks (server products): a row has all that others have to know of one.

What runs, calls, measures, builds or deploys the servers loops over STACKS and names none of them. What is a product's
own is in its service's folder and in its codec. The defaults of ports and addresses are in .env. External servers,
which deployments.toml names, are stacks too (external_stack): nothing of the above but the calling is done to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from servepath.artifacts.spec import FP32

RUN_DIR = Path(".run")
METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Port:
    """One port. variable: sets it. purpose: what listens there. loopback: its own machine alone reaches it."""

    variable: str
    purpose: str
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file that a service keeps for its callers: RUN_DIR/SERVICE/NAME, or what `variable` says."""

    variable: str
    name: str


@dataclass(frozen=True, slots=True)
class Trailers:
    """Where an answer's origin is said when replies do not say it: trailing metadata, and the manifest for the hash.

    engine: whose replies have no such metadata either; its version is in `version_file`.
    """

    engine: str
    version_file: ServiceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image, servepath/REPOSITORY, built from deploy/images/REPOSITORY.Dockerfile.

    name: that it is asked for by. extras: of pyproject.toml, installed as deploy/images/locks/LOCK.txt says; none where
    the base brings all. base: the variable that names what it is built on. cuda: whether it computes on GPUs.
    arguments: build arguments and their values; passed: those that .env gives. limit_mb: what it may add to its base.
    stand_in: the name of the image that is built where the base cannot be had.
    """

    name: str
    repository: str
    lock: str = ""
    extras: tuple[str, ...] = ()
    base: str = "PYTHON_IMAGE"
    cuda: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    passed: tuple[str, ...] = ()
    limit_mb: int | None = None
    stand_in: str = ""


@dataclass(frozen=True, slots=True)
class Tunable:
    """A setting of a path that `servepath tune` searches. values: what it tries beside the value in use.

    per_core: values above the number of cores are left out. per_server: a server has one for all its models; its
    default is as many as there are cores.
    """

    name: str
    values: tuple[int, ...]
    per_core: bool = False
    per_server: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One server product.

    name: key, metric label and table row. service: process, folder and log name. artifact_format: what it loads. codec:
    the module that speaks its protocol. ports: its own first. socket: whether it takes --socket PATH in place of a
    port. options: arguments for its service; {run_dir} and {metrics_port} are filled in. credentials: the file with
    the key that it demands, if it does. identity: who answered, None where the replies tell. images: first the one that
    is built by default. packed: files of this repository that its artifacts contain. engine_process: the program that
    serves, where that is a child of the service. cuda_mark: what its engine's version contains on a GPU, if it tells.
    external: nothing here runs, builds or deploys it. which_one_version: which one it serves, where it has one version
    of a model at a time as we run it; empty where it serves all that are exported. why_no_loading: why no call has a
    model loaded or unloaded, and what to do instead; empty where calls may. reduced: the precisions, beside float32,
    that it serves models in, each from a format of its own. precision: what a path on it computes in. tunables:
    settings of its server for one model; the service's own code says what each does.
    """

    name: str
    service: str
    artifact_format: str
    codec: str
    ports: tuple[Port, ...]
    images: tuple[Image, ...]
    socket: bool = False
    options: tuple[str, ...] = ()
    credentials: ServiceFile | None = None
    identity: Trailers | None = None
    packed: tuple[str, ...] = ()
    engine_process: str = ""
    cuda_mark: str = ""
    external: bool = False
    which_one_version: str = ""
    why_no_loading: str = ""
    reduced: tuple[str, ...] = ()
    precision: str = FP32
    tunables: tuple[Tunable, ...] = ()

    def in_precision(self, precision: str) -> "Stack":
        """Return this server as a path of a reduced precision is on it, STACK:PRECISION."""
        name, artifact_format = f"{self.name}:{precision}", f"{self.artifact_format}-{precision}"
        return replace(self, name=name, artifact_format=artifact_format, precision=precision)

    @property
    def in_precisions(self) -> tuple["Stack", ...]:
        """Return this server in full precision, then as paths of reduced precisions are on it."""
        return (self, *map(self.in_precision, self.reduced))

    def name_of(self, model: str) -> str:
        """Return what the server calls a model: its name, or the path's where the precision is a reduced one."""
        return model if self.precision == FP32 else f"{model}@{self.name}"

    @property
    def address_variable(self) -> str:
        """Return the environment variable that holds its address."""
        return f"{self.service.upper()}_ADDR"

    @property
    def extra(self) -> str:
        """Return the extra of pyproject.toml that installs its service."""
        return self.service.replace("_", "-")

    @property
    def has_cuda(self) -> bool:
        """Return whether it has an image that computes on GPUs."""
        return any(image.cuda for image in self.images)

    @property
    def open_ports(self) -> tuple[Port, ...]:
        """Return the ports that other machines may reach."""
        return tuple(port for port in self.ports if not port.loopback)

    @property
    def files(self) -> tuple[ServiceFile, ...]:
        """Return the files that its service keeps for callers."""
        return tuple(file for file in (self.credentials, self.identity.version_file if self.identity else None) if file)


CUDA = MappingProxyType({"DEVICE": "gpu"})
# Of every path: the gateway's limits, by their names in deployments.toml.
GATEWAY_TUNABLES = (Tunable("max_in_flight", (1, 4, 16)), Tunable("max_merge_rows", (1, 256)))
# Cores that one run takes; without it, all of them where the run is alone (ADR 29).
ENGINE_THREADS = Tunable("engine_threads", (1, 2, 4, 8, 16), per_core=True)
SERVER_THREADS = replace(ENGINE_THREADS, per_server=True)
# Runs of one model at a time.
THREADS = Tunable("threads", (1, 4))
# Kept by torch_svc: the key alone, so `grpcurl -H "authorization: Bearer $(cat .run/torch_svc/token)"` works too.
TORCH_TOKEN = ServiceFile("TORCH_SVC_TOKEN_FILE", "token")
# Kept by tf_svc, one line: the version that tensorflow_model_server prints.
TF_VERSION = ServiceFile("TF_SVC_VERSION_FILE", "version")

STACKS = MappingProxyType(
    {
        stack.name: stack
        for stack in (
            Stack(
                name="torchserve",
                service="torch_svc",
                artifact_format="mar",
                codec="servepath.protocols.torchserve",
                ports=(
                    Port("TORCH_SVC_PORT", "gRPC inference"),
                    Port("TORCH_SVC_GRPC_MANAGEMENT_PORT", "gRPC management", loopback=True),
                    Port("TORCH_SVC_HTTP_PORT", "HTTP inference", loopback=True),
                    Port("TORCH_SVC_MANAGEMENT_PORT", "HTTP management", loopback=True),
                    Port("TORCH_SVC_METRICS_PORT", METRICS, loopback=True),
                ),
                options=("--run-dir", "{run_dir}"),
                credentials=TORCH_TOKEN,
                packed=("services/torch_svc/handler.py", "services/torch_svc/model-config.yaml"),
                engine_process="java",
                reduced=("bf16",),
                tunables=(
                    Tunable("workers", (2, 4), per_core=True),
                    Tunable("batch_size", (8, 128)),
                    Tunable("max_batch_delay_ms", (5,)),
                    SERVER_THREADS,
                ),
                which_one_version="the one that was current when it started",
                why_no_loading="its model API is off, and it loads what is current when it starts: restart it",
                images=(
                    Image(
                        name="torch_svc",
                        repository="torch_svc",
                        lock="torch_svc-cpu",
                        extras=("torch-svc",),
                        passed=("TORCH_INDEX",),
                    ),
                    Image(
                        name="torch_svc-gpu",
                        repository="torch_svc",
                        lock="torch_svc-gpu",
                        extras=("torch-svc",),
                        arguments=CUDA,
                        cuda=True,
                    ),
                ),
            ),
            Stack(
                name="tfserving",
                service="tf_svc",
                artifact_format="saved_model",
                codec="servepath.protocols.tfserving",
                ports=(Port("TF_SVC_PORT", "gRPC"),),
                socket=True,
                options=("--run-dir", "{run_dir}"),
                identity=Trailers("tensorflow_model_server", TF_VERSION),
                tunables=(SERVER_THREADS,),
                which_one_version="the newest one",
                why_no_loading="it follows its version folders: export a version, or remove its folder",
                images=(
                    Image(name="tf_svc", repository="tf_svc", base="TF_SERVING_IMAGE", stand_in="tf_svc-embedded"),
                    Image(name="tf_svc-gpu", repository="tf_svc", base="TF_SERVING_GPU_IMAGE", cuda=True),
                    Image(
                        name="tf_svc-embedded", repository="tf_svc-embedded", lock="tf_svc-embedded", extras=("tf-svc",)
                    ),
                ),
            ),
            Stack(
                name="onnx",
                service="onnx_svc",
                artifact_format="onnx",
                codec="servepath.protocols.oip",
                ports=(Port("ONNX_SVC_PORT", "gRPC"), Port("ONNX_SVC_METRICS_PORT", METRICS)),
                options=("--metrics-port", "{metrics_port}"),
                cuda_mark="CUDAExecutionProvider",
                reduced=("fp16", "int8", "tf32"),
                tunables=(THREADS, ENGINE_THREADS),
                images=(
                    Image(
                        name="onnx_svc",
                        repository="onnx_svc",
                        lock="onnx_svc-cpu",
                        extras=("onnx-svc-cpu",),
                        limit_mb=200,
                    ),
                    Image(
                        name="onnx_svc-gpu",
                        repository="onnx_svc",
                        lock="onnx_svc-gpu",
                        extras=("onnx-svc-cuda",),
                        arguments=CUDA,
                        cuda=True,
                    ),
                ),
            ),
            Stack(
                name="litert",
                service="litert_svc",
                artifact_format="tflite",
                codec="servepath.protocols.oip",
                ports=(Port("LITERT_SVC_PORT", "gRPC"), Port("LITERT_SVC_METRICS_PORT", METRICS)),
                options=("--metrics-port", "{metrics_port}"),
                tunables=(THREADS, ENGINE_THREADS),
                images=(
                    Image(
                        name="litert_svc",
                        repository="litert_svc",
                        lock="litert_svc",
                        extras=("litert-svc",),
                        limit_mb=200,
                    ),
                ),
            ),
        )
    },
)

# The precisions that some stack serves: the reduced ones, and all.
REDUCED_PRECISIONS = tuple(dict.fromkeys(precision for stack in STACKS.values() for precision in stack.reduced))
PRECISIONS = (FP32, *REDUCED_PRECISIONS)
# What a path of ours may be on: each stack, and each with its reduced precisions.
PATH_STACKS: Mapping[str, Stack] = MappingProxyType(
    {each.name: each for stack in STACKS.values() for each in stack.in_precisions}
)


def server_of(stack: str) -> str:
    """Return the stack whose server, and whose address, is that of a path's stack: the one without its precision."""
    return stack.partition(":")[0]


def external_stack(name: str) -> Stack:
    """Return the stack of an external server that speaks the Open Inference Protocol; its artifacts are its own."""
    service = name.replace("-", "_")
    return Stack(
        name=name,
        service=service,
        artifact_format="",
        codec="servepath.protocols.external",
        ports=(),
        images=(),
        external=True,
        why_no_loading="it is not ours: ask that server itself",
    )


def service_files(environment: Mapping[str, str | None], run_dir: Path = RUN_DIR) -> dict[str, Path]:
    """Return where the files are that services keep for their callers, by variable; `environment` may say it."""
    return {
        file.variable: Path(environment.get(file.variable) or run_dir / stack.service / file.name)
        for stack in STACKS.values()
        for file in stack.files
    }
