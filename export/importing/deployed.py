"""An imported model in deployments.toml: a table at its end, where the file has none of that name."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError
from servepath.artifacts.atomic import write_file


def deploy(path: Path, model: str, stacks: Sequence[str]) -> str:
    """Add the model's paths to a deployments file; return a sentence that says what is there now.

    What the file has of the model already stays as it is. Raises ExportError for a file that cannot be read.
    """
    try:
        text = path.read_text() if path.exists() else ""
        there = tomllib.loads(text).get("models", {})
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    if model in there:
        missing = [stack for stack in stacks if stack not in there[model].get("stacks", {})]
        if not missing:
            return f"{path} has its paths already"
        lines = " and ".join(f"[models.{_key(model)}.stacks.{stack}]" for stack in missing)
        return f"{path} has the model already: add {lines} to it"
    tables = "".join(f"[models.{_key(model)}.stacks.{stack}]\n" for stack in stacks)
    gap = "\n" if text and not text.endswith("\n\n") else ""
    write_file(path, f'{text}{gap}[models.{_key(model)}]\ndefault = "{stacks[0]}"\n{tables}')
    return f"added to {path}: {', '.join(f'{model}@{stack}' for stack in stacks)}"


def _key(model: str) -> str:
    return f'"{model}"' if "." in model else model
