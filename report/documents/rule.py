"""By which rule a run ended that went on until its differences were known."""

import math
from collections.abc import Mapping
from typing import Any

from report.sequential import AIM, EARLY, LEVEL, Design, design_of
from servepath.results.names import FAILED_REQUESTS, KNOWN, TIME_UP, WRONG_ANSWERS

SPOILED = {WRONG_ANSWERS: "responses were incorrect", FAILED_REQUESTS: "requests failed"}


def rule(facts: Mapping[str, Any]) -> list[str]:
    """Return by which rule a run ended, in sentences for its report; none where its rounds were fixed before."""
    design = design_of(facts)
    if design is None or not design.looks:
        return []
    percent, looks, level = f"{100 * design.difference:g} %", design.looks, 100 * LEVEL
    spent = f"of the family's {level:g} % of false alarms, as much may be spent as of the time has passed"
    many = f"{len(looks)} looks" if len(looks) > 1 else "1 look"
    said = [
        f"Rounds until {percent} is known: {_end(design)}, {looks[-1].rounds} rounds and {many}.",
        f"The rule: {spent} (Lan and DeMets). P values and 95 % intervals are those of all looks together.",
        f"A p99 is of {design.split} rounds' requests.",
    ]
    early = [each for each in facts["sequential"]["looks"][:-1] if each["share"] <= EARLY]
    first = next((each for each in early if (each["needed_minutes"] or 0) > design.minutes), None)
    if design.ended == TIME_UP and first is not None:
        said.append(
            f"After {first['rounds']} rounds the machine was found too noisy for {percent} within "
            f"{design.minutes:g} minutes: {math.ceil(first['needed_minutes'])} would be needed."
        )
    return said


def early_end(facts: Mapping[str, Any]) -> list[str]:
    """Return what ended a run that is not valid before all was known or the time was up, in a sentence; else none."""
    design = design_of(facts)
    return [] if design is None or design.ended in {KNOWN, TIME_UP} else rule(facts)[:1]


def _end(design: Design) -> str:
    percent, took = f"{100 * design.difference:g} %", f"{design.looks[-1].share * design.minutes:.1f}"
    if design.ended == KNOWN:
        return f"all comparisons of {AIM} were known to {percent} after {took} of {design.minutes:g} minutes"
    if design.ended == TIME_UP:
        return f"the time ended first, after {design.minutes:g} minutes; what is not known to {percent} is named"
    why = SPOILED.get(design.ended, "the run was interrupted or failed")
    return f"{why}, which ended it after {took} of {design.minutes:g} minutes"
