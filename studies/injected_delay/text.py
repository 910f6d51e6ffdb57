"""What a person reads: a line for each run, and the text that documents take over."""

import textwrap
from collections.abc import Iterator
from typing import Any

from report.verdicts import METRICS, Verdict
from studies.injected_delay.counts import Counts, Ratio, Share
from studies.injected_delay.runs import Calibration
from studies.injected_delay.trials import P50, Trial, on

WIDTH = 120


def line(trial: Trial) -> str:
    """Return what one run found."""
    if trial.reasons:
        return f"INVALID, it does not count: {'; '.join(trial.reasons)}"
    alarm = "FALSE ALARM" if trial.false_alarm else "too close to call"
    found = "found" if trial.found else "WRONG WAY" if trial.wrong_way else "not found"
    alike, injected = (_inverse(on(P50, pair)) for pair in (trial.alike, trial.injected))
    took = "" if trial.minutes is None else f" in {trial.minutes:.1f} min{', too noisy as said' * trial.warned}"
    return f"p50 b to a {alike}: {alarm}; injected to a {injected}: {found}{took}"


def _inverse(verdict: Verdict) -> str:
    ratio, low, high = verdict.ratio or 1, verdict.low or 1, verdict.high or 1
    return f"{1 / ratio:.3f} ({1 / high:.3f}..{1 / low:.3f})"


def render(counts: Counts, calibration: Calibration, host: dict[str, Any], simulation: str) -> str:
    """Return the Markdown of a whole proof; `simulation` is what studies.simulation printed, or empty."""
    parts = [_conditions(counts, calibration, host), "", *_shares(counts), "", *_metrics(counts), "", *_ratios(counts)]
    if counts.invalid:
        runs = "; ".join(f"{trial.run}: {trial.reasons[0]}" for trial in counts.invalid)
        parts += ["", f"INVALID runs, not counted and replaced by further ones: {len(counts.invalid)} ({runs})."]
    if (minutes := counts.minutes()) is not None:
        parts += ["", f"A run went on for {minutes:.1f} minutes, the median."]
    if simulation:
        parts += ["", "By simulation, the last line fitted to these runs:", "", simulation.strip()]
    return "\n".join(parts) + "\n"


def _conditions(counts: Counts, calibration: Calibration, host: dict[str, Any]) -> str:
    begun = sorted(trial.started for trial in counts.trials)
    days = " to ".join(dict.fromkeys((begun[0][:10], begun[-1][:10])))
    commits = ", ".join(sorted({trial.commit[:7] + trial.commit[40:] for trial in counts.trials}))
    machine = f"{host['cores']} cores ({host['cpu']}), {host['memory_bytes'] / 2**30:.0f} GiB, {host['os']}"
    size = f"{calibration.path} direct, {calibration.planned} at {calibration.rate_rps:g} requests/s a run"
    injected = (
        f"{calibration.delay_us:g} us a call of the engine, where response times have p50 {calibration.p50_us:.0f} us"
    )
    return textwrap.fill(f"{days}, {machine}; commit {commits}. {size}. Injected: {injected}.", WIDTH)


def _shares(counts: Counts) -> Iterator[str]:
    yield "| runs in which | count | share, exact 95 % interval | claimed | contradicted |"
    yield "| --- | --- | --- | --- | --- |"
    yield from map(_share, counts.shares())


def _share(share: Share) -> str:
    size = f"{100 * share.count / share.total:.0f} % ({100 * share.low:.1f}..{100 * share.high:.1f})"
    answer = {None: "-", True: "**yes**", False: "no"}[share.contradicted]
    return f"| {share.title} | {share.count} of {share.total} | {size} | {share.claim or '-'} | {answer} |"


def _metrics(counts: Counts) -> Iterator[str]:
    yield "| metric | smallest difference that a run finds in 80 %, median | spread of ratios between rounds |"
    yield "| --- | --- | --- |"
    for metric in METRICS:
        smallest = 100 * (counts.minimum_detectable_effect(metric) - 1)
        yield f"| {metric} | {smallest:.1f} % | {100 * counts.spread(metric):.1f} % |"


def _ratios(counts: Counts) -> Iterator[str]:
    yield f"Over all runs: {'; '.join(map(_ratio, counts.ratios()))}."


def _ratio(ratio: Ratio) -> str:
    interval = "" if ratio.low is None else f" (95 % CI {ratio.low:.4f}..{ratio.high:.4f})"
    return f"{ratio.title} {ratio.mean:.4f}{interval}"
