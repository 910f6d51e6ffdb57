import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from deploy.supply.audit import AuditError, Waiver, judge, read_waivers

TODAY = dt.date(2026, 11, 23)
WAIVER = Waiver("torchserve", "GHSA-xxxx", "nothing reaches that port", dt.date(2027, 6, 30))
FOUND = {"id": "PYSEC-2026-1", "aliases": ["GHSA-xxxx"], "fix_versions": ["0.13.0"]}


def answer(**package: Any) -> dict[str, Any]:
    """What pip-audit prints of a lock with one package."""
    return {"dependencies": [{"name": "torchserve", "version": "0.12.0", **package}]}


def waivers(folder: Path, text: str) -> list[Waiver]:
    file = folder / "waivers.toml"
    file.write_text(text)
    return read_waivers(file, TODAY)


def test_a_lock_without_findings_passes() -> None:
    assert judge(answer(vulns=[]), []).passes()


def test_a_package_that_the_service_does_not_know_was_not_audited() -> None:
    audit = judge({"dependencies": [{"name": "torchserve", "skip_reason": "not found"}]}, [])
    assert (audit.skipped, audit.passes()) == (["torchserve"], False)


def test_an_open_vulnerability_fails() -> None:
    audit = judge(answer(vulns=[FOUND]), [])
    assert audit.vulnerable == ["torchserve 0.12.0: PYSEC-2026-1 GHSA-xxxx, fixed in 0.13.0"]
    assert not audit.passes()


def test_one_that_is_waived_by_any_of_its_names_passes_and_is_shown_with_its_reason() -> None:
    audit = judge(answer(vulns=[FOUND]), [WAIVER])
    assert audit.passes()
    assert audit.waived[0].endswith("; waived until 2027-06-30: nothing reaches that port")


def test_a_waiver_of_another_package_does_not_count() -> None:
    assert not judge(answer(vulns=[FOUND]), [WAIVER._replace(package="torch")]).passes()


def test_a_waiver_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = '[[waiver]]\npackage = "p"\nid = "i"\nreason = "r"\nuntil = 2026-11-24\n'
    assert waivers(tmp_path, text) == [Waiver("p", "i", "r", dt.date(2026, 11, 24))]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('package = "p"\nid = "i"\nreason = "r"\nuntil = 2026-11-23', "was waived until 2026-11-23: review it"),
        ('package = "p"\nid = "i"\nreason = "r"\nuntil = "soon"', "until must be a date"),
        ('package = "p"\nid = "i"\nreason = ""\nuntil = 2026-11-24', "the reason must not be empty"),
        ('package = "p"\nid = "i"\nuntil = 2026-11-24', "package, id, reason and until are needed"),
    ],
)
def test_a_waiver_that_is_late_or_incomplete_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint):
        waivers(tmp_path, f"[[waiver]]\n{text}\n")
