"""Known vulnerabilities of what a lock names, as pip-audit knows them, less those that are waived.

pip-audit ends with success when its service knows nothing of any package, as behind a mirror without that service. So
what it skipped is counted here: a lock of which one package was skipped is not audited.
"""

import datetime as dt
import json
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deploy.supply.programs import program

AUDIT_S = 300.0


class AuditError(Exception):
    """The waivers cannot be used, or pip-audit gives no answer; the text says why."""


class Waiver(NamedTuple):
    """A vulnerability that we live with. id: pip-audit's. until: the day from which it counts again."""

    package: str
    id: str
    reason: str
    until: dt.date


class Audit(NamedTuple):
    """What was found in one lock, a line each; skipped: packages that the service does not know."""

    vulnerable: Sequence[str]
    waived: Sequence[str]
    skipped: Sequence[str]

    def passes(self) -> bool:
        """Return whether every package was audited and nothing is open."""
        return not self.vulnerable and not self.skipped


def read_waivers(file: Path, today: dt.date) -> list[Waiver]:
    """Return the waivers. Raises AuditError for one that is incomplete or has run out."""
    waivers = []
    for entry in tomllib.loads(file.read_text()).get("waiver", []):
        try:
            waiver = Waiver(**entry)
        except TypeError as error:
            raise AuditError(f"{file}: {entry}: package, id, reason and until are needed, no more") from error
        if type(waiver.until) is not dt.date or not waiver.reason:
            raise AuditError(f"{file}: {waiver.id}: until must be a date, and the reason must not be empty")
        if waiver.until <= today:
            raise AuditError(f"{file}: {waiver.id} of {waiver.package} was waived until {waiver.until}: review it")
        waivers.append(waiver)
    return waivers


def ask_pip_audit(lock: Path) -> Any:
    """Return pip-audit's JSON for a lock. Raises AuditError, ProgramMissingError."""
    command = [
        "--require-hashes",
        "--disable-pip",
        "--requirement",
        str(lock),
        "--format=json",
        "--progress-spinner=off",
    ]
    done = subprocess.run(
        [program("pip-audit"), *command], capture_output=True, text=True, timeout=AUDIT_S, check=False
    )
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise AuditError(f"pip-audit gives no answer: {last}") from error


def judge(answer: Any, waivers: Sequence[Waiver]) -> Audit:
    """Sort pip-audit's answer into open, waived and skipped."""
    reasons = {(waiver.package, waiver.id): waiver for waiver in waivers}
    vulnerable, waived, skipped = [], [], []
    for package in answer["dependencies"]:
        name = package["name"]
        if "skip_reason" in package:
            skipped.append(name)
        for found in package.get("vulns", []):
            ids = [found["id"], *found.get("aliases", [])]
            waiver = next((reasons[name, one] for one in ids if (name, one) in reasons), None)
            line = f"{name} {package['version']}: {' '.join(ids)}, fixed in {', '.join(found['fix_versions']) or '-'}"
            if waiver is None:
                vulnerable.append(line)
            else:
                waived.append(f"{line}; waived until {waiver.until}: {waiver.reason}")
    return Audit(vulnerable, waived, skipped)
