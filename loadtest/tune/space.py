"""What may be set for a path, and to what: its stack's row and the gateway's limits, less what cannot count here."""

from collections.abc import Mapping, Sequence

from servepath.protocols.stacks import GATEWAY_TUNABLES, Stack
from servepath.protocols.tuned import PRECISION

Value = int | str
# Settings that differ from the default, by name; none of them is the default itself.
Candidate = tuple[tuple[str, Value], ...]
Space = Mapping[str, Sequence[Value]]
DEFAULT: Candidate = ()


def space_of(
    stack: Stack, *, cores: int, in_use: Mapping[str, int], precisions: Sequence[str] = ()
) -> dict[str, tuple[Value, ...]]:
    """Return the values of each setting that are worth a trial. in_use: limits of the gateway by default.

    precisions: reduced ones in which the model has a path on the stack.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for tunable in (*GATEWAY_TUNABLES, *stack.tunables):
        values = [value for value in tunable.values if not (tunable.per_core and value > cores)]
        # The default of what a server has once is all cores.
        values = [value for value in values if not (tunable.per_server and value == cores)]
        values = [value for value in values if value != in_use.get(tunable.name)]
        if values:
            found[tunable.name] = tuple(values)
    return found | ({PRECISION: tuple(precisions)} if precisions else {})


def changed(candidate: Candidate, name: str, value: Value) -> Candidate:
    """Return a candidate with one setting changed."""
    return tuple(sorted({**dict(candidate), name: value}.items()))
