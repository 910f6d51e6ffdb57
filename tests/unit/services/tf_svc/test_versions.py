import logging
from pathlib import Path

import pytest
from grpc import StatusCode

from services.tf_svc.refusal import LoadError
from services.tf_svc.servable import Servable
from services.tf_svc.versions import REMEMBERED, Found, State, Status, Versions, newest


class Loader:
    """Loads any folder but those with a file `bad`; keeps what it was asked for, and the states seen meanwhile."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.seen: list[Status] = []
        self.versions: Versions | None = None

    def __call__(self, _model: str, version: int, folder: Path) -> Servable:
        self.asked.append(version)
        if self.versions:
            self.seen.append(self.versions.statuses[version])
        if (folder / "bad").exists():
            raise LoadError(StatusCode.OUT_OF_RANGE, f"{folder} is bad")
        return Servable(version, {}, b"")


def make(base: Path, name: str, *, bad: bool = False) -> None:
    (base / name).mkdir()
    if bad:
        (base / name / "bad").touch()


def served(versions: Versions) -> int | None:
    return versions.servable.version if versions.servable else None


def states(versions: Versions) -> dict[int, State]:
    return {version: status.state for version, status in versions.statuses.items()}


def test_a_version_is_whatever_has_a_whole_number_for_a_name_a_file_too(tmp_path: Path) -> None:
    for name in ("1", "007", "abc", ".9.tmp", "9.tmp", "-4", "9a", "٩"):
        make(tmp_path, name)
    assert newest(tmp_path) == Found(7, tmp_path / "007")
    (tmp_path / "8").touch()
    assert newest(tmp_path) == Found(8, tmp_path / "8")


def test_only_the_largest_number_is_loaded(tmp_path: Path) -> None:
    load = Loader()
    for name in ("2", "10", "9"):
        make(tmp_path, name)
    versions = Versions("m", tmp_path, load)
    versions.poll()
    assert (load.asked, served(versions), states(versions)) == ([10], 10, {10: State.AVAILABLE})


def test_a_version_starts_loads_is_available_and_ends(tmp_path: Path) -> None:
    load = Loader()
    make(tmp_path, "1")
    versions = load.versions = Versions("m", tmp_path, load)
    found = versions.due()
    assert found
    assert states(versions) == {1: State.START}
    versions.take(found)
    assert load.seen == [Status(State.LOADING)]
    make(tmp_path, "2")
    versions.poll()
    assert states(versions) == {1: State.END, 2: State.AVAILABLE}


def test_a_version_is_unloading_while_a_call_still_holds_it(tmp_path: Path) -> None:
    make(tmp_path, "1")
    versions = Versions("m", tmp_path, Loader())
    versions.poll()
    held = versions.servable
    make(tmp_path, "2")
    versions.poll()
    assert states(versions) == {1: State.UNLOADING, 2: State.AVAILABLE}
    assert held
    del held
    assert states(versions) == {1: State.END, 2: State.AVAILABLE}


def test_a_number_that_serves_again_stays_available_when_its_first_load_ends(tmp_path: Path) -> None:
    make(tmp_path, "2")
    versions = Versions("m", tmp_path, Loader())
    versions.poll()
    held = versions.servable
    make(tmp_path, "1")
    (tmp_path / "2").rename(tmp_path / ".aside")
    versions.poll()
    (tmp_path / ".aside").rename(tmp_path / "2")
    versions.poll()
    assert held
    del held
    assert states(versions)[2] == State.AVAILABLE


def test_a_version_that_does_not_load_is_refused_once_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load = Loader()
    make(tmp_path, "1")
    versions = Versions("m", tmp_path, load)
    versions.poll()
    make(tmp_path, "2", bad=True)
    for _ in range(3):
        versions.poll()
    refused = versions.statuses[2]
    assert (served(versions), load.asked, refused[:2]) == (1, [1, 2], (State.END, StatusCode.OUT_OF_RANGE))
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        f"m: version 2 refused, version 1 serves on: {tmp_path / '2'} is bad"
    ]


def test_a_refused_number_is_never_tried_again_and_the_next_one_is(tmp_path: Path) -> None:
    load = Loader()
    make(tmp_path, "2", bad=True)
    versions = Versions("m", tmp_path, load)
    versions.poll()
    (tmp_path / "2").rename(tmp_path / ".old")
    versions.poll()
    make(tmp_path, "2")
    versions.poll()
    assert (load.asked, served(versions)) == ([2], None)
    make(tmp_path, "3")
    versions.poll()
    assert served(versions) == 3


def test_the_only_loaded_version_serves_on_when_its_folder_goes_and_the_newest_does_not_load(tmp_path: Path) -> None:
    make(tmp_path, "1")
    versions = Versions("m", tmp_path, Loader())
    versions.poll()
    make(tmp_path, "2", bad=True)
    versions.poll()
    (tmp_path / "1").rmdir()
    versions.poll()
    assert served(versions) == 1


def test_a_base_path_that_cannot_be_read_changes_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "m"
    base.mkdir()
    make(base, "1")
    versions = Versions("m", base, Loader())
    versions.poll()
    base.rename(tmp_path / "elsewhere")
    versions.poll()
    versions.poll()
    assert served(versions) == 1
    assert len(caplog.records) == 1


def test_it_forgets_the_oldest_of_many_ended_versions(tmp_path: Path) -> None:
    versions = Versions("m", tmp_path, Loader())
    for number in range(1, REMEMBERED + 5):
        make(tmp_path, str(number))
        versions.poll()
    assert len(versions.statuses) <= REMEMBERED + 2
    assert 1 not in versions.statuses
