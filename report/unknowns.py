"""What a run does not show: what was not measured, with the command that does it, and what it cannot know."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from report.candidate import UNKNOWN, Candidate, Settings
from report.candidates import Evidence
from report.stats import EMBEDDED
from servepath.artifacts.commit import names_code
from servepath.results.names import CLOSED, LOCAL, UNKNOWN_ARTIFACT

GPU_FIGURE = "GPU utilisation"
# Measurements of each path in a scorecard by default (loadtest/cost/load.py), and how many times as many tell more.
ROUNDS, MORE = 3, 4


class Missing(NamedTuple):
    """What was not measured, and the command that measures it."""

    what: str
    command: str


def missing(
    evidence: Evidence,
    found: Sequence[Candidate],
    slo_p99_ms: float,
    *,
    priced: bool,
    ties: Iterable[Sequence[Candidate]],
) -> Iterator[Missing]:
    """Yield what a better recommendation would rest on. priced: a price was declared. ties: those of answers."""
    yield from _capacities(evidence, found, slo_p99_ms)
    if evidence.scorecard is None:
        yield Missing("what a request costs", make("scorecard PRICE_PER_HOUR=0.10 CURRENCY=EUR", found, found))
        return
    for some in _by_tuned(each for each in found if each.cost is None):
        yield Missing(f"what a request costs on {_names(some)}", make("scorecard", some, found))
    for some in _by_tuned(each for each in found if each.cost is not None and not each.cost.values):
        yield Missing("how sure the costs are: this scorecard is of an earlier release", make("scorecard", some, found))
    for tie in ties:
        rounds = MORE * max([ROUNDS, *(len(each.cost.values) for each in tie if each.cost)])
        what = f"which of {_names(tie)} costs less: more measurements may tell"
        yield from (Missing(what, make(f"scorecard ROUNDS={rounds}", some, found)) for some in _by_tuned(tie))
    if not priced:
        yield Missing("the price of a million requests", "make recommend PRICE_PER_HOUR=0.10 CURRENCY=EUR")


def _capacities(evidence: Evidence, found: Sequence[Candidate], slo_p99_ms: float) -> Iterator[Missing]:
    command = make(f"capacity SLO_P99_MS={slo_p99_ms:g}", found, found)
    measured_ms = (evidence.capacity or {}).get("slo_p99_ms")
    if measured_ms is None:
        yield Missing("the capacity of each path", command)
    elif measured_ms < slo_p99_ms:
        yield Missing(f"capacities at {slo_p99_ms:g} ms: those at {measured_ms:g} ms are lower bounds", command)
    elif measured_ms > slo_p99_ms:
        yield Missing(f"capacities at {slo_p99_ms:g} ms: this run has those at {measured_ms:g} ms", command)
    else:
        for some in _by_tuned(each for each in found if each.capacity is None):
            paths = ",".join(dict.fromkeys(each.path for each in some))
            words = f"capacity SLO_P99_MS={slo_p99_ms:g} PATHS={paths}"
            yield Missing(f"the capacity of {_names(some)}", make(words, some, found))


def make(words: str, some: Sequence[Candidate], found: Sequence[Candidate]) -> str:
    """Return the command that measures some of those found: where any are tuned, other servers may run than theirs."""
    own, tuned = (any(each.settings.origin for each in every) for every in (some, found))
    return f"make {'down ' if tuned else ''}{words}{' TUNED=1' if own else ''}"


def _by_tuned(found: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """Yield those with the defaults, then the tuned ones, as far as there are any."""
    every = list(found)
    halves = ([each for each in every if bool(each.settings.origin) is tuned] for tuned in (False, True))
    yield from filter(None, halves)


def precisions(found: Sequence[Candidate], left_out: Sequence[Candidate]) -> Iterator[str]:
    """Yield that candidates compute in several precisions, and which were left out for being of another one."""
    loaded = {each.precision for each in found if each.version is not None}
    if len(loaded) > 1 or len({each.reduced for each in found}) > 1:
        known = {each.path: each.precision for each in found if each.precision != UNKNOWN}
        said = ", ".join(f"{path} in {known.get(path, UNKNOWN)}" for path in dict.fromkeys(each.path for each in found))
        yield f"Whether a reduced precision will do: the paths do not compute in the same one ({said})."
    if left_out:
        names = ", ".join(dict.fromkeys(each.path for each in left_out))
        yield f"Other precisions, left out since the run did not load them: {names}; PATHS may name them."


def unknowns(evidence: Evidence, found: Sequence[Candidate], rate_rps: float, slo_p99_ms: float) -> Iterator[str]:
    """Yield, by the run's own facts, what nobody can know from it."""
    facts, host = evidence.facts, evidence.facts["host"]
    yield from _contradictions(found, rate_rps, slo_p99_ms)
    memory = f"{host['memory_bytes'] / 2**30:.0f} GiB"
    yield f"Other hardware: this was measured on {host['cpu']}, {host['cores']} cores, {memory}."
    stand_ins = dict.fromkeys((each.path, each.engine) for each in found if each.engine.startswith(EMBEDDED))
    for path, engine in stand_ins:
        yield f"The product itself: {path} was answered by {engine}, a stand-in that speaks its protocol."
    yield from _load(facts)
    yield from _settings(found)
    yield from _attached(evidence, rate_rps)
    if unseen := [each for each in found if each.capacity is not None and each.capacity.open_ended]:
        yield f"How much more than their capacities can be done by {_names(unseen)}: the search did not get there."
    if unknown := [each for each in found if each.sha256 == UNKNOWN_ARTIFACT]:
        yield f"Which artifact {_names(unknown)} served: its server does not say."


def _contradictions(found: Sequence[Candidate], rate_rps: float, slo_p99_ms: float) -> Iterator[str]:
    for each in found:
        seen = each.loaded_p99_ms if each.loaded_rps == rate_rps else None
        if seen is not None and seen.low is not None and seen.low > slo_p99_ms and each.rate_rps >= rate_rps:
            yield (
                f"Which is right of {each.name} {each.via}: by its capacity it holds {rate_rps:,g} req/s, and under "
                f"the run's own load its p99 was {seen.value:.3g} ms (95 % CI {seen.low:.3g}..{seen.high:.3g})."
            )


def _load(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["load_model"] == CLOSED:
        yield "Response times at a rate: the run was a closed loop, whose callers wait for their replies."
    if facts["fairness"]["run"].get("environment", {"value": LOCAL})["value"] == LOCAL:
        yield "Servers with a machine of their own: the load generator took its share of the cores."
    sent = facts.get("payloads")
    if sent is not None:
        requests = f"those of {sent['file']}" if "file" in sent else "rows of the models' references"
        yield f"Other requests: {requests} were sent."


def _settings(found: Sequence[Candidate]) -> Iterator[str]:
    tuned = {each.path for each in found if each.settings.origin}
    only = [each for each in found if each.settings.name == Settings().name and each.path not in tuned]
    if only and len(only) == len(found):
        yield "Other settings: every path had its defaults."
    elif only:
        yield f"Other settings of {_names(only)}, which had its defaults alone."


def _attached(evidence: Evidence, rate_rps: float) -> Iterator[str]:
    for name, found in (("capacity", evidence.capacity), ("scorecard", evidence.scorecard)):
        commit = (found or {}).get("git_commit")
        if commit and commit != evidence.facts["git_commit"]:
            yield f"Whether the code of the {name} is as fast as the run's: it is of another commit."
        elif commit and not names_code(commit):
            yield f"Whether the code of the {name} is the run's: no commit names it."
    if not (evidence.capacity or {}).get("complete", True):
        yield "Where the search for capacities would have ended: it was interrupted."
    card = evidence.scorecard or {"scorecard": ()}
    if card.get("rate_rps") not in {None, rate_rps}:
        yield f"CPU per request at {rate_rps:,g} req/s: it was measured at {card['rate_rps']:,g} req/s."
    if any(one["name"] == GPU_FIGURE and one["value"] for each in card["scorecard"] for one in each["figures"]):
        yield "What the GPU costs: CPU seconds alone are counted."


def _names(found: Sequence[Candidate]) -> str:
    return ", ".join(dict.fromkeys(f"{each.name} {each.via}" for each in found))
