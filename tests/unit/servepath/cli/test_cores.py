import os
from pathlib import Path

import pytest

from servepath.cli import cores


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"), [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (2, 4.0, 2), (4, 0.25, 1)]
)
def test_a_part_of_a_core_counts_whole_and_the_tighter_bound_decides(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)))
    monkeypatch.setattr(cores, "cpu_quota", lambda _: quota)
    assert cores.usable_cores() == usable


def test_the_tightest_quota_of_all_groups_above_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/outer/inner"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group.parent.parent / "cpu.max").write_text("400000 100000\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    monkeypatch.setattr(cores, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    assert cores.cpu_quota("self") == 1.5
