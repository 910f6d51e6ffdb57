"""Under which settings each path was measured: the default ones, or those that `servepath tune` found."""

from collections.abc import Iterator, Mapping
from typing import Any

from report.document import Block, Bullets, Detail, Text

KEY = "settings"
DEFAULT = "default"


def settings(facts: Mapping[str, Any]) -> Iterator[Block]:
    """Yield a line for each path with tuned settings and one for the others; nothing where a run does not say."""
    paths: Mapping[str, Any] = facts["fairness"]["paths"]
    found = {name: str(keys[KEY]["value"]) for name, keys in paths.items() if KEY in keys}
    if not found:
        return
    groups: dict[str, list[str]] = {}
    for name, said in found.items():
        groups.setdefault(said, []).append(name)
    if set(groups) == {DEFAULT}:
        yield Text("Every path ran with its default settings.", detail=Detail.USUAL)
        return
    yield Bullets(tuple(Text(f"{', '.join(names)}: {said}", detail=Detail.BRIEF) for said, names in groups.items()))
