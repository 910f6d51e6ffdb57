"""What makes a run unusable. Each rule gives its reasons, one line each; no reason at all means valid."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from report.rows import Rows
from report.summary import Identity, Row

MIN_REQUESTS = 1000

RowRule = Callable[[Row], Iterator[str]]


def reasons(run: Rows, rows: tuple[Row, ...]) -> tuple[str, ...]:
    """Give every reason not to trust the run."""
    found = [*_incomplete(run), *_missing(run)]
    for rule in ROW_RULES:
        found += [f"{row.name}: {reason}" for row in rows for reason in rule(row)]
    return (*found, *_differing_ways(rows))


def _incomplete(run: Rows) -> Iterator[str]:
    if run.facts["complete"] is not True:
        yield "the run did not end by itself: it was interrupted or failed"


def _missing(run: Rows) -> Iterator[str]:
    for name in run.expected:
        if name not in run.tables:
            yield f"{name}: there are no rows of it"
    if not run.expected:
        yield "the run measured nothing"


def _errors(row: Row) -> Iterator[str]:
    if row.errors:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(row.error_codes.items()))
        yield f"{row.errors:,} of {row.requests:,} requests failed ({codes})"


def _wrong_answers(row: Row) -> Iterator[str]:
    if row.wrong_answers:
        yield f"{row.wrong_answers:,} of {row.requests:,} answers are wrong"
    if row.warmup_wrong_answers:
        yield f"{row.warmup_wrong_answers:,} answers of the warm-up are wrong"


def _too_few(row: Row) -> Iterator[str]:
    if row.requests < MIN_REQUESTS:
        yield f"{row.requests:,} requests, {MIN_REQUESTS:,} are needed"


def _mixed(row: Row) -> Iterator[str]:
    if len(row.identities) > 1:
        yield f"more than one artefact or engine answered: {'; '.join(map(_identity, row.identities))}"


def _unnamed(row: Row) -> Iterator[str]:
    if row.identities and not all((row.engine, row.engine_version, row.version, row.sha256)):
        yield f"the answers do not say fully who made them: {_identity(row.identities[0])}"


def _differing_ways(rows: tuple[Row, ...]) -> Iterator[str]:
    """The same path, direct and through the gateway, must be the same server with the same artefact."""
    for one, other in pairwise(rows):
        if one.path == other.path and one.identities and other.identities and one.identities != other.identities:
            sides = f"{_identity(one.identities[0])} {one.via}, {_identity(other.identities[0])} {other.via}"
            yield f"{one.path}: different servers answered: {sides}"


def _identity(identity: Identity) -> str:
    engine, engine_version, version, sha256 = identity
    return f"{engine or '?'} {engine_version or '?'} version {version or '?'} ({sha256[:12] or 'no sha256'})"


ROW_RULES: tuple[RowRule, ...] = (_errors, _wrong_answers, _too_few, _mixed, _unnamed)
