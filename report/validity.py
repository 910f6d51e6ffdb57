"""What makes a run unusable. Each rule gives its reasons, one line each; no reason at all means valid."""

from collections.abc import Callable, Iterator
from itertools import combinations

from report import fairness
from report.rows import NO_OP, Rows
from report.stats import Identity, PathResult
from servepath.results.names import UNKNOWN_ARTIFACT
from servepath.results.thresholds import MAX_CPU, MAX_DRIFT_US, MAX_LATE_SHARE, MIN_REQUESTS

# A tenth of the smallest latency that a gRPC call here has.
MAX_STEP_NS = 10_000
# What an engine's name says that is slowed down on purpose (studies/injected_delay/injected.py).
INJECTED = ("injected delay", "planted delay")

RowRule = Callable[[PathResult], Iterator[str]]


def answers(run: Rows, rows: tuple[PathResult, ...]) -> tuple[str, ...]:
    """Return every reason why some path failed or returned an incorrect response."""
    found = [*_incomplete(run), *_missing(run), *_by_row(rows, ANSWER_RULES)]
    return (*found, *_by_row(rows, IDENTITY_RULES), *_differing_ways(rows))


def timing_reasons(run: Rows, rows: tuple[PathResult, ...], no_op: PathResult | None) -> tuple[str, ...]:
    """Return every reason not to trust the times, whether or not the responses are correct."""
    instrument = () if no_op is None else (no_op,)
    found = [*_clock(run), *_by_row((*rows, *instrument), INSTRUMENT_RULES), *_by_row(instrument, ANSWER_RULES)]
    return (*found, *fairness.undeclared(run))


def _by_row(rows: tuple[PathResult, ...], rules: tuple[RowRule, ...]) -> Iterator[str]:
    for rule in rules:
        for row in rows:
            yield from (f"{row.name}: {reason}" for reason in rule(row))


def _incomplete(run: Rows) -> Iterator[str]:
    if run.facts["complete"] is not True:
        ended = f"{len(run.rounds)} of {run.facts['rounds']} rounds ended"
        yield f"the run is incomplete: it was interrupted or failed ({ended})"


def _missing(run: Rows) -> Iterator[str]:
    if run.facts["complete"] is True:
        for name in run.expected:
            absent = [number for number in range(run.facts["rounds"]) if number not in run.tables.get(name, {})]
            if absent:
                yield f"{name}: rows are missing in {_rounds(absent)}"
    if not set(run.expected) - {NO_OP}:
        yield "the run measured nothing"


def _rounds(numbers: list[int]) -> str:
    return f"round {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} rounds, the first of them {numbers[0]}"


def _clock(run: Rows) -> Iterator[str]:
    drifts_us = [measurement["clock"]["drift_us"] for measurement in run.facts["measurements"]]
    drift_us = max(drifts_us, default=0) - min(drifts_us, default=0)
    if drift_us > MAX_DRIFT_US:
        said = f"{drift_us / 1e3:,.0f} ms, {MAX_DRIFT_US / 1e3:g} ms is the most"
        yield f"the wall clock left the measuring clock by {said}: it was set, or the machine was suspended"
    step_ns = run.facts["clock"]["smallest_step_ns"]
    if step_ns is None or step_ns > MAX_STEP_NS:
        yield f"the clock is too coarse: its smallest step is {step_ns or 'unknown'} ns"


def _errors(row: PathResult) -> Iterator[str]:
    if row.errors:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(row.error_codes.items()))
        yield f"{row.errors:,} of {row.requests:,} requests failed ({codes})"


def _wrong_answers(row: PathResult) -> Iterator[str]:
    if row.wrong_answers:
        yield f"{row.wrong_answers:,} of {row.requests:,} responses are incorrect"
    if row.warmup_wrong_answers:
        yield f"{row.warmup_wrong_answers:,} responses of the warm-up are incorrect"


def _too_few(row: PathResult) -> Iterator[str]:
    if row.requests < MIN_REQUESTS:
        yield f"{row.requests:,} requests, {MIN_REQUESTS:,} are needed"


def _late(row: PathResult) -> Iterator[str]:
    if row.lateness is not None and row.lateness.over_1ms_share > MAX_LATE_SHARE:
        share = f"{row.lateness.over_1ms_share:.1%}"
        yield f"the generator sent {share} of the requests more than 1 ms late, {MAX_LATE_SHARE:.0%} is the most"


def _busy(row: PathResult) -> Iterator[str]:
    if row.generator_cpu is not None and row.generator_cpu > MAX_CPU:
        yield f"the generator used {row.generator_cpu:.0%} of a core, {MAX_CPU:.0%} is the most"


def _mixed(row: PathResult) -> Iterator[str]:
    if len(row.identities) > 1:
        yield f"more than one artifact or engine answered: {'; '.join(map(_identity, row.identities))}"


def _unnamed(row: PathResult) -> Iterator[str]:
    # An external server need not name what it serves; the page says so, and its answers were checked all the same.
    version = row.version or row.sha256 == UNKNOWN_ARTIFACT
    if row.identities and not all((row.engine, row.engine_version, version, row.sha256)):
        yield f"the responses do not fully identify their server: {_identity(row.identities[0])}"


def _differing_ways(rows: tuple[PathResult, ...]) -> Iterator[str]:
    """Yield paths whose server or artifact differs between direct and through the gateway."""
    for one, other in combinations(rows, 2):
        same = (one.path, one.side) == (other.path, other.side)
        if same and one.identities and other.identities and one.identities != other.identities:
            sides = f"{_identity(one.identities[0])} {one.via}, {_identity(other.identities[0])} {other.via}"
            yield f"{one.path}: different servers answered: {sides}"


def _injected(row: PathResult) -> Iterator[str]:
    """Yield the use of a server with injected delay; only runs with sides may compare such servers."""
    if any(mark in row.engine for mark in INJECTED) and not row.side:
        yield f"the server has an injected delay, to test the method: {row.engine}; start the real one"


def _identity(identity: Identity) -> str:
    engine, engine_version, version, sha256 = identity
    return f"{engine or '?'} {engine_version or '?'} version {version or '?'} ({sha256[:12] or 'no sha256'})"


ANSWER_RULES: tuple[RowRule, ...] = (_errors, _wrong_answers, _too_few)
IDENTITY_RULES: tuple[RowRule, ...] = (_mixed, _unnamed, _injected)
INSTRUMENT_RULES: tuple[RowRule, ...] = (_late, _busy)
