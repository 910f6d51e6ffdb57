"""The files that a run consists of, as JSON Schemas (report/schemas), and reading what must obey them.

They are published for others: a script that reads summary.json, or writes capacity.json, can rely on them.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from report import older

SCHEMAS = Path(__file__).parent / "schemas"
# A complaint quotes what it complains of, which may be a whole file.
LONGEST = 160
# The run.json that this report reads; older.py reads the previous one.
RUN_SCHEMA = 3


class ReportError(Exception):
    """A run cannot be read or compared; the text names the file and the fix."""


@cache
def validator(name: str) -> Draft202012Validator:
    """Return the validator of report/schemas/NAME.schema.json."""
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def read(path: Path, name: str, *, missing: str) -> dict[str, Any]:
    """Read a JSON file that obeys a schema. Raises ReportError naming the file, the place and what is wrong there."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ReportError(f"{path} is missing: {missing}") from error
    except ValueError as error:
        raise ReportError(f"{path} is not JSON ({error}); run: make loadtest") from error
    content = older.upgrade(name, content)
    found = content.get("schema", RUN_SCHEMA) if isinstance(content, dict) else RUN_SCHEMA
    if name == "run" and found != RUN_SCHEMA:
        raise ReportError(f"{path} is of schema {found!r} and this report reads {RUN_SCHEMA}; run: make loadtest")
    mistake = best_match(validator(name).iter_errors(content))
    if mistake is not None:
        raise ReportError(f"{path}: {mistake.json_path}: {_short(mistake.message)}; see {name}.schema.json")
    return dict(content)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"
