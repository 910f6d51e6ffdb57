"""The settings of torch_svc. Nothing else here reads the environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from servepath.cli.arguments import whole
from servepath.protocols.stacks import STACKS, TORCH_TOKEN, Port
from servepath.protocols.tuned import VARIABLE
from servepath.settings import SettingsParser, fixed_port, variables

MAX_TOKEN_MINUTES = 7 * 24 * 60
# What the handler takes its threads from: torch knows a process's affinity, and no quota.
THREADS = "SERVEPATH_THREADS"
# What goes before our number of threads.
OF_THREADS = (THREADS, "OMP_NUM_THREADS")
# Set for us by nobody, but read by TorchServe in place of our settings.
FOREIGN_PREFIXES = ("TS_", "LOG_LOCATION", "METRICS_LOCATION")


@dataclass(frozen=True, slots=True)
class Ports:
    """TorchServe's five ports; all but `inference` are bound to loopback only."""

    inference: int
    grpc_management: int
    http: int
    management: int
    metrics: int


STACK = "torchserve"
# By field of Ports.
PORTS: Mapping[str, Port] = {field.name: port for field, port in zip(fields(Ports), STACKS[STACK].ports, strict=True)}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that one start depends on.

    models: the exports folder. host: bind address of gRPC inference. run_dir: ours alone, absolute. token_file: where
    the inference key is published. token_minutes: life of a key. token_renew_s: seconds between renewals.
    environment: for the JVM. tokens: whether callers must show a key. tuned: the folder of tuned settings.
    """

    models: Path
    host: str
    ports: Ports
    run_dir: Path
    token_file: Path
    token_minutes: int
    token_renew_s: float
    environment: Mapping[str, str]
    tokens: bool = True
    tuned: Path | None = None


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read command line and environment. Raises SettingsError for a variable; exits with code 2 for an option."""
    parser = _parser()
    values = parser.read_settings(argv)
    ports = Ports(inference=values.pop("port"), **{field: values.pop(field) for field in list(PORTS)[1:]})
    run_dir = values.pop("run_dir").absolute()
    life_s = values["token_minutes"] * 60
    renew_s = values.pop("token_renew_s") or life_s / 2
    if renew_s >= life_s:
        parser.error(f"--token-renew-s must be less than the key's lifetime of {life_s} s, got {renew_s}")
    return Settings(
        ports=ports,
        run_dir=run_dir,
        token_file=(values.pop("token_file") or run_dir / TORCH_TOKEN.name).absolute(),
        token_renew_s=renew_s,
        environment=variables(),
        tokens=not values.pop("without_tokens"),
        **values,
    )


def _parser() -> SettingsParser:
    parser = SettingsParser(
        "python -m services.torch_svc",
        "Serve every exported .mar on TorchServe 0.12. Ports but the first come from the environment or .env: "
        "TORCH_SVC_{GRPC_MANAGEMENT,HTTP,MANAGEMENT,METRICS}_PORT, which stay on loopback. "
        "Each archive is checked against its manifest: that proves integrity, not authorship, and an archive's "
        "handler is code that runs here.",
    )
    setting = parser.setting
    setting("models", "exports folder", kind=Path, default=Path("artifacts/exports"))
    setting("port", "gRPC inference port", variable=PORTS["inference"].variable, kind=fixed_port)
    for field in list(PORTS)[1:]:
        parser.variable(field, PORTS[field].variable, kind=fixed_port)
    setting("host", "IPv4 address that gRPC inference is bound to", default="127.0.0.1")
    setting("run_dir", "working folder, one per instance", kind=Path, default=Path(".run/torch_svc"))
    text = f"where the inference key is published, RUN_DIR/{TORCH_TOKEN.name} by default"
    setting("token_file", text, variable=TORCH_TOKEN.variable, kind=Path, default=None)
    setting("token_minutes", "minutes that a key is valid", kind=whole(1, MAX_TOKEN_MINUTES), default=60)
    text = "seconds between renewals (default: half its life)"
    setting("token_renew_s", text, kind=whole(1, MAX_TOKEN_MINUTES * 60), default=None)
    parser.variable("tuned", VARIABLE, kind=Path, default=None)
    text = "disable token authorization: only where nobody but the gateway can connect"
    parser.add_argument("--without-tokens", action="store_true", help=text)
    return parser


def child_environment(environment: Mapping[str, str], cores: int, tuned: int | None = None) -> dict[str, str]:
    """Return the environment of TorchServe and its workers, without what it would read in place of our settings.

    What it says of threads stays, unless their number is a tuned one. OpenMP's threads wait for each other by spinning
    unless told otherwise: two of them, beside two other busy processes on two cores, had 5 rows/s where two that sleep
    have 118 (a small DistilBERT, PyTorch 2.13.0, 2026-11-29).
    """
    left_out = FOREIGN_PREFIXES if tuned is None else (*FOREIGN_PREFIXES, *OF_THREADS)
    ours = {THREADS: str(tuned or cores), "OMP_WAIT_POLICY": "PASSIVE"}
    return ours | {name: value for name, value in environment.items() if not name.startswith(left_out)}


def explain_port(ports: Ports, number: int) -> str:
    """Return what uses a port and the variable that sets it, such as "8081 (HTTP management; TORCH_SVC_...)"."""
    field = next(field for field in PORTS if getattr(ports, field) == number)
    port = PORTS[field]
    return f"{number} ({port.purpose}; set {port.variable} to change it)"


def numbers(ports: Ports) -> Sequence[int]:
    """Return the five port numbers, inference first."""
    return [getattr(ports, field) for field in PORTS]
