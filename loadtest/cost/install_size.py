"""Install size: the distributions that an extra of pyproject.toml pulls in, and the bytes of their installed files."""

import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from loadtest.cost.figures import MIB, Figure, missing
from servepath.cli.requirements import required

NAME, UNIT = "install size", "MiB"
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
LARGEST = 3
Find = Callable[[str], metadata.Distribution]


def install_size(extra: str, find: Find = metadata.distribution, pyproject: Path = PYPROJECT) -> Figure:
    """Return the size of an extra's closure. find: gives an installed distribution by name."""
    try:
        sizes = {name: installed_bytes(found) for name, found in closure(extra, find, pyproject).items()}
    except metadata.PackageNotFoundError as error:
        return missing(NAME, UNIT, f"{error.name} of the extra {extra} is not installed here")
    largest = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    shares = ", ".join(f"{name} {sizes[name] / MIB:,.0f}" for name in largest)
    note = f"files of {len(sizes)} distributions: the extra {extra} and all it requires; {shares}; Python not counted"
    return Figure(NAME, sum(sizes.values()) / MIB, UNIT, note)


def closure(extra: str, find: Find, pyproject: Path) -> dict[str, metadata.Distribution]:
    """Return the distributions by name that an extra of this project requires, directly and in turn.

    Markers are those of this interpreter. Raises PackageNotFoundError for one that is not installed.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    own = canonicalize_name(project["name"])
    found: dict[str, metadata.Distribution] = {}
    wanted: list[tuple[str, str]] = [(own, extra)]
    seen: set[tuple[str, str]] = set()
    while wanted:
        name, asked = wanted.pop()
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        if name != own and name not in found:
            found[name] = find(name)
        lines = _of_project(project, asked) if name == own else found[name].requires or []
        wanted += required(lines, asked)
    return found


def installed_bytes(distribution: metadata.Distribution) -> int:
    """Return the bytes of the files in a distribution's RECORD that are there."""
    places = (Path(str(file.locate())) for file in distribution.files or ())
    return sum(place.stat().st_size for place in places if place.is_file())


def _of_project(project: Mapping[str, Any], extra: str) -> list[str]:
    """Return what pyproject.toml lists for an extra, or for the project itself."""
    lines: list[str] = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return lines
