"""What a distribution requires, as the scorecard's install sizes and the images' locks follow it."""

from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required(declared: Iterable[str], extra: str) -> Iterator[tuple[str, str]]:
    """Yield canonical name and extra of what lines of requirements ask for here, where `extra` of them is wanted.

    The empty extra stands for a distribution's own requirements. Markers are those of this interpreter
    (https://packaging.python.org/en/latest/specifications/dependency-specifiers/).
    """
    for requirement in map(Requirement, declared):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield from ((canonicalize_name(requirement.name), one) for one in ("", *requirement.extras))
