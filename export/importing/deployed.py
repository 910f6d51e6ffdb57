"""An imported model in deployments.toml: a table at its end, where the file has none of that name."""

import contextlib
import json
import re
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from export.errors import ExportError
from servepath.artifacts.atomic import write_file
from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.artifacts.spec import Spec
from servepath.cli.locked import Held, locked
from servepath.protocols.deployments import DeploymentsError, GatewayLimits
from servepath.protocols.deployments_file import read_gateway_limits

NONE: Mapping[str, str] = MappingProxyType({})
# For other imports that add to the same file at this moment.
WAIT_S, PAUSE_S = 30.0, 0.05


def check(path: Path, model: str, stacks: Sequence[str], refused: Mapping[str, str] = NONE) -> None:
    """Raise ExportError where `deploy` could not do its work, or where the file has a stack that is not in `stacks`.

    A gateway does not start with a path whose model has no artifact for it. refused: why a stack cannot be, by name.
    """
    text, there = _read(path)
    if model not in there:
        _composed(path, text, model, stacks)
        return
    external = tomllib.loads(text).get("servers", {})  # whose servers have artifacts of their own
    for stack in there[model].get("stacks", {}):
        if stack not in stacks and stack not in external:
            precision = stack.partition(":")[2]
            why = refused.get(stack) or (precision and f"import it with --precision {precision}")
            raise ExportError(
                f"{path} has {model}@{stack}, and this model cannot be served on {stack}{why and f' ({why})'}: take "
                f"[models.{_key(model)}.stacks.{_key(stack)}] out of that file, or choose another --name"
            )


def check_limits(path: Path, spec: Spec) -> None:
    """Raise ExportError for a model that the gateway would not take by the limits in the file."""
    try:
        limits = read_gateway_limits(path) if path.exists() else GatewayLimits()
    except DeploymentsError as error:
        raise ExportError(str(error)) from error
    if above := limits.exceeded_by(spec):
        raise ExportError(f"{above} of {path}")


def deploy(path: Path, model: str, stacks: Sequence[str]) -> str:
    """Add the model's paths to a deployments file; return a sentence that says what is there now.

    What the file has of the model already stays as it is. Raises ExportError for a file that cannot be read or added
    to, OSError for one that cannot be written.
    """
    if said := _said(path, model, stacks):
        return said
    target = path.resolve()  # a link stays one
    with _alone(target.with_name(f".{target.name}.lock")):
        if said := _said(path, model, stacks):  # it may have come while we waited
            return said
        composed = _composed(path, _read(path)[0], model, stacks)
        write_file(target, composed, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644)
    return f"added to {path}: {', '.join(f'{model}@{stack}' for stack in stacks)}"


def _said(path: Path, model: str, stacks: Sequence[str]) -> str:
    """Return what there is to say where the file has the model already, nothing where it has not."""
    _, there = _read(path)
    if model not in there:
        return ""
    missing = [stack for stack in stacks if stack not in there[model].get("stacks", {})]
    if not missing:
        return f"{path} has its paths already"
    lines = " and ".join(f"[models.{_key(model)}.stacks.{_key(stack)}]" for stack in missing)
    return f"{path} has the model already: add {lines} to it"


def _read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the file's text and its models, none of a file that is not there. Raises ExportError."""
    try:
        text = path.read_bytes().decode()  # with the ends of lines that it has
        raw = tomllib.loads(text)
    except FileNotFoundError:
        return "", {}
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    models = _table(path, "models", raw.get("models", {}))
    for name, table in models.items():
        where = f"models.{_key(name)}"
        _table(path, f"{where}.stacks", _table(path, where, table).get("stacks", {}))
    return text, models


def _table(path: Path, where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ExportError(f"{path}: [{where}] must be a table, got {value!r:.80}")
    return value


def _composed(path: Path, text: str, model: str, stacks: Sequence[str]) -> str:
    """Return the file's text with the model's tables at its end. Raises ExportError where that is no TOML."""
    try:
        check_model_name(model)
    except ModelNameError as error:
        raise ExportError(str(error)) from error
    tables = "".join(f"[models.{_key(model)}.stacks.{_key(stack)}]\n" for stack in stacks)
    gap = "\n" if text and not text.endswith("\n\n") else ""
    composed = f'{text}{gap}[models.{_key(model)}]\ndefault = "{stacks[0]}"\n{tables}'
    try:
        tomllib.loads(composed)
    except ValueError as error:
        raise ExportError(
            f"[models.{_key(model)}] cannot be added to {path}: {error}; write its models as tables, [models.NAME]"
        ) from error
    return composed


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold a file, when others have let go of it. Raises ExportError where they do not."""
    with contextlib.ExitStack() as held:
        for left in range(int(WAIT_S / PAUSE_S), -1, -1):
            try:
                held.enter_context(locked(file))
                break
            except Held:
                if not left:
                    raise ExportError(f"another import holds {file}; wait for its end") from None
                time.sleep(PAUSE_S)
        yield


def _key(name: str) -> str:
    """Return a name as a TOML key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
