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


def write_groups(folder: Path, quotas: dict[str, str], processes: dict[int, str]) -> None:
    """Write control groups, an outer one before those within it, their quotas of 100000, and who is in which."""
    for group, quota in quotas.items():
        place = folder / "sys/fs/cgroup" / group
        place.mkdir(parents=True)
        (place / "cpu.max").write_text(f"{quota} 100000\n")
    for process, group in processes.items():
        place = folder / f"proc/{process}"
        place.mkdir(parents=True)
        (place / "cgroup").write_text(f"0::/{group}\n")


def test_processes_of_one_group_share_its_quota_and_those_of_another_have_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_groups(
        tmp_path, {"one": "150000", "other": "200000", "free": "max"}, {1: "one", 2: "one", 3: "other", 4: "free"}
    )
    monkeypatch.setattr(cores, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    assert cores.cpu_quota(1, 2) == 1.5
    assert cores.cpu_quota(1, 2, 3) == 3.5
    assert cores.cpu_quota(1, 4) is None


def test_groups_together_have_no_more_than_the_one_above_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_groups(tmp_path, {"p": "200000", "p/a": "150000", "p/b": "150000"}, {1: "p/a", 2: "p/b"})
    monkeypatch.setattr(cores, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    assert cores.cpu_quota(1) == 1.5
    assert cores.cpu_quota(1, 2) == 2.0
