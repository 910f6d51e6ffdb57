"""The programs that look into images and locks, in an environment of their own (.venv-supply, extra `supply`)."""

from pathlib import Path

FOLDER = Path(".venv-supply/bin")


class ProgramMissingError(Exception):
    """The environment is not there; the text says what makes it."""


def program(name: str, folder: Path = FOLDER) -> str:
    """Return where a program is. Raises ProgramMissingError."""
    found = folder / name
    if not found.exists():
        raise ProgramMissingError(f"there is no {found}; run: make sbom")
    return str(found)
