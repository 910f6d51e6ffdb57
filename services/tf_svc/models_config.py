"""models.config, the text protobuf that both engines start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format

from servepath.artifacts.manifest import AGAIN
from servepath.settings import SettingsError
from servepath_pb.servepath.tfserving.tfserving_pb2 import ModelServerConfig

PLATFORM = "tensorflow"
FORMAT = "saved_model"


class Entry(NamedTuple):
    """One model of a models.config. base: its folder of versions. labels: version by label."""

    base: Path
    labels: Mapping[str, int]


def find(exports: Path) -> dict[str, Path]:
    """Return the folder of versions of every model that has a SavedModel, by name. Raises SettingsError."""
    try:
        bases = {path.parent.name: path.resolve() for path in sorted(exports.glob(f"*/{FORMAT}"))}
        found = {name: base for name, base in bases.items() if any(path.name.isdecimal() for path in base.iterdir())}
    except OSError as error:
        raise SettingsError(f"{exports} cannot be read ({error.strerror}); {AGAIN}") from error
    if not found:
        raise SettingsError(f"{exports} has no MODEL/{FORMAT}/VERSION folder; {AGAIN}")
    return found


def render(models: Mapping[str, Path]) -> str:
    """Return the models.config that serves these base paths."""
    config = ModelServerConfig()
    for name, base in models.items():
        config.model_config_list.config.add(name=name, base_path=str(base), model_platform=PLATFORM)
    return text_format.MessageToString(config)


def read(path: Path) -> dict[str, Entry]:
    """Read a models.config back. Raises SettingsError naming the file and the entry or line at fault."""
    try:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not a models.config that the embedded server knows: {error}") from error
    models: dict[str, Entry] = {}
    for entry in config.model_config_list.config:
        base = Path(entry.base_path)
        if not entry.name or entry.name in models:
            raise SettingsError(f"{path}: model name {entry.name!r} is empty or used twice")
        if entry.model_platform != PLATFORM:
            raise SettingsError(f"{path}: {entry.name}: model_platform {entry.model_platform!r}, expected {PLATFORM!r}")
        if not base.is_absolute():
            raise SettingsError(f"{path}: {entry.name}: base_path {entry.base_path!r} is not absolute")
        models[entry.name] = Entry(base, dict(entry.version_labels))
    if not models:
        raise SettingsError(f"{path} lists no model")
    return models
