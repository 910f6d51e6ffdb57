"""models.config, the text protobuf that both engines start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format

from servepath_pb.servepath.tfserving.tfserving_pb2 import ModelServerConfig
from services.tf_svc.config import ConfigError

PLATFORM = "tensorflow"
FORMAT = "saved_model"


class Entry(NamedTuple):
    """One model of a models.config. base: its folder of versions. labels: version by label."""

    base: Path
    labels: Mapping[str, int]


def find(exports: Path) -> dict[str, Path]:
    """Return the folder of versions of every model that has a SavedModel, by name. Raises ConfigError."""
    try:
        bases = {path.parent.name: path.resolve() for path in sorted(exports.glob(f"*/{FORMAT}"))}
        found = {name: base for name, base in bases.items() if any(path.name.isdecimal() for path in base.iterdir())}
    except OSError as error:
        raise ConfigError(f"{exports} cannot be read ({error.strerror}); run: make export") from error
    if not found:
        raise ConfigError(f"{exports} has no MODEL/{FORMAT}/VERSION folder; run: make export")
    return found


def render(models: Mapping[str, Path]) -> str:
    """Return the models.config that serves these base paths."""
    config = ModelServerConfig()
    for name, base in models.items():
        config.model_config_list.config.add(name=name, base_path=str(base), model_platform=PLATFORM)
    return text_format.MessageToString(config)


def read(path: Path) -> dict[str, Entry]:
    """Read a models.config back. Raises ConfigError naming the file and the entry or line at fault."""
    try:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a models.config that the embedded server knows: {error}") from error
    models: dict[str, Entry] = {}
    for entry in config.model_config_list.config:
        base = Path(entry.base_path)
        if not entry.name or entry.name in models:
            raise ConfigError(f"{path}: model name {entry.name!r} is empty or used twice")
        if entry.model_platform != PLATFORM:
            raise ConfigError(f"{path}: {entry.name}: model_platform {entry.model_platform!r}, expected {PLATFORM!r}")
        if not base.is_absolute():
            raise ConfigError(f"{path}: {entry.name}: base_path {entry.base_path!r} is not absolute")
        models[entry.name] = Entry(base, dict(entry.version_labels))
    if not models:
        raise ConfigError(f"{path} lists no model")
    return models
