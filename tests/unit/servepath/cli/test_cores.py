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


def test_processes_of_one_group_share_its_quota_and_those_of_another_have_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for group, quota in {"one": "150000 100000", "other": "200000 100000", "free": "max 100000"}.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text(f"{quota}\n")
    for process, group in {1: "one", 2: "one", 3: "other", 4: "free"}.items():
        folder = tmp_path / f"proc/{process}"
        folder.mkdir(parents=True)
        (folder / "cgroup").write_text(f"0::/{group}\n")
    monkeypatch.setattr(cores, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    assert cores.cpu_quota(1, 2) == 1.5
    assert cores.cpu_quota(1, 2, 3) == 3.5
    assert cores.cpu_quota(1, 4) is None
