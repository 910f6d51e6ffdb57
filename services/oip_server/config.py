"""The settings that every service of this server has. The variables of its ports begin with the service's name."""

from dataclasses import dataclass
from pathlib import Path

from servepath.cli.arguments import up_to_an_hour, whole
from servepath.protocols import tuned
from servepath.settings import SettingsParser
from services.dataplane.listeners import DEFAULT_LISTENER
from services.dataplane.options import OFF
from services.oip_server.service import OipService


# No slots: the command line takes its defaults from the class.
@dataclass(frozen=True)
class Settings:
    """Everything that the server is told from outside.

    port, metrics_port: 0 takes a free one. threads: calls of one model version that compute at once; max_queue: calls
    that may wait for one of them. watch_s: seconds between two looks at each model's current version. front: a key of
    LISTENERS. workers: processes on one port. worker_of: of one of them, its socket to the first. tuned: the folder of
    tuned settings, which go before these. model_loading: ON lets callers have models loaded.
    """

    models: Path
    port: int
    metrics_port: int
    host: str = "127.0.0.1"
    metrics_host: str = "127.0.0.1"
    threads: int = 2
    max_queue: int = 1024
    max_message_bytes: int = 64 * 2**20
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0
    drain_s: float = 25.0
    watch_s: float = 1.0
    front: str = DEFAULT_LISTENER
    workers: int = 1
    worker_of: int | None = None
    tuned: Path | None = None
    model_loading: str = OFF

    def threads_of(self, version: Path) -> int:
        """Return the calls that compute at once of the model in a version's folder. Raises TunedError."""
        return tuned.of_artifact(self.tuned, version).get("threads", self.threads)

    def engine_threads_of(self, version: Path) -> int | None:
        """Return the cores that each of its runs takes; None where the engine decides. Raises TunedError."""
        return tuned.of_artifact(self.tuned, version).get("engine_threads")


def settings_parser(service: OipService) -> SettingsParser:
    """Return a parser of these options; a service may add its own, and then reads all by read_server_settings."""
    parser = SettingsParser(
        f"python -m {service.module}",
        f"Serve exported {service.kind} models over gRPC with the Open Inference Protocol.",
    )
    setting = parser.setting
    setting("models", "exported artifacts", kind=Path, default=Path("artifacts/exports"))
    setting("threads", "calls of a model that compute in parallel", kind=whole(1), default=Settings.threads)
    setting("max_queue", "calls of a model that may wait", kind=whole(1), default=Settings.max_queue)
    setting(
        "default_deadline_s",
        "deadline in seconds of calls without one",
        kind=up_to_an_hour,
        default=Settings.default_deadline_s,
    )
    parser.variable("tuned", tuned.VARIABLE, kind=Path, default=None)
    setting("drain_s", "seconds for calls in flight when stopping", kind=up_to_an_hour, default=Settings.drain_s)
    return parser
