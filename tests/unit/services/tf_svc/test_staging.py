import logging
import shutil
from pathlib import Path

import pytest

from servepath.artifacts.manifest import MANIFEST, ArtifactError
from services.tf_svc import staging as staging_module
from services.tf_svc.staging import Staging
from tests.manifests import write_manifest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "exports" / "m" / "saved_model"
    folder.mkdir(parents=True)
    return folder


def make(source: Path, version: int, model: str = "m") -> Path:
    folder = source / str(version)
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {version}")
    (folder / "variables" / "variables.index").write_text(f"index {version}")
    write_manifest(folder, model, "saved_model", version)
    return folder


def begun(source: Path) -> Staging:
    staging = Staging({"m": source}, source.parent.parent.parent / "served")
    staging.begin()
    return staging


def served(staging: Staging) -> dict[str, Path]:
    return {path.name: path.readlink() for path in staging.bases["m"].iterdir()}


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_the_newest_version_that_fits_its_manifest_is_linked_and_no_other(source: Path) -> None:
    for version in (1, 2, 10):
        make(source, version)
    (source / "10" / "saved_model.pb").write_text("cut")
    assert served(begun(source)) == {"2": source / "2"}


def test_a_new_version_takes_the_place_of_the_one_before(source: Path) -> None:
    make(source, 1)
    staging = begun(source)
    make(source, 2)
    staging.step()
    assert served(staging) == {"2": source / "2"}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "variables" / "variables.index").unlink(), "variables.index is missing"),
        (
            lambda folder: (folder / "saved_model.pb").write_text("other"),
            "saved_model.pb does not match its manifest",
        ),
        (lambda folder: (folder / "more").write_text("x"), "more is not in the manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda folder: write_manifest(folder, "other", "saved_model", 2), "holds other as saved_model, version 2"),
        (lambda folder: write_manifest(folder, "m", "saved_model", 3), "holds m as saved_model, version 3"),
        (lambda folder: write_manifest(folder, "m", "onnx", 2), "holds m as onnx, version 2"),
    ],
)
def test_a_version_that_does_not_fit_is_kept_from_the_server_and_taken_once_it_fits(
    source: Path, damage: object, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(source, 1)
    staging = begun(source)
    folder = make(source, 2)
    damage(folder)  # type: ignore[operator]
    staging.step()
    staging.step()
    assert served(staging) == {"1": source / "1"}
    (line,) = refusals(caplog)
    assert line.startswith("m: version 2 refused, version 1 serves on: ")
    assert says in line
    shutil.rmtree(folder)
    make(source, 2)
    staging.step()
    assert served(staging) == {"2": source / "2"}


def test_a_version_that_is_copied_file_by_file_is_said_to_be_refused_once_and_taken_when_whole(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(source, 1)
    staging = begun(source)
    whole = make(tmp_path / "elsewhere", 2)
    for path in (whole / MANIFEST, whole / "saved_model.pb", whole / "variables" / "variables.index"):
        assert served(staging) == {"1": source / "1"}
        to = source / "2" / path.relative_to(whole)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
        staging.step()
    assert served(staging) == {"2": source / "2"}
    assert len(refusals(caplog)) == 1


def test_what_is_wrong_with_a_copy_that_has_come_to_rest_is_said(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(source, 1)
    staging = begun(source)
    (source / "2").mkdir()
    staging.step()
    shutil.copytree(make(source, 3, "other"), source / "2", dirs_exist_ok=True)
    shutil.rmtree(source / "3")
    for _ in range(3):
        staging.step()
    first, last = refusals(caplog)
    assert "manifest.json is missing" in first
    assert "holds other as saved_model, version 3" in last


def test_what_is_no_folder_or_has_no_number_is_no_version(source: Path) -> None:
    make(source, 1)
    make(source, 2).rename(source / "007")  # no other part of this repository looks for version 7 there
    (source / "99").write_text("a file")
    (source / ".2.tmp").mkdir()
    assert set(served(begun(source))) == {"1"}


def test_when_the_newest_goes_the_one_before_it_is_linked_again_and_with_the_last_one_all_goes(source: Path) -> None:
    make(source, 1)
    make(source, 2)
    staging = begun(source)
    shutil.rmtree(source / "2")
    staging.step()
    assert set(served(staging)) == {"1"}
    shutil.rmtree(source / "1")
    staging.step()
    assert served(staging) == {}


def test_a_folder_that_cannot_be_read_changes_nothing_and_is_said_once(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(source, 1)
    staging = begun(source)
    source.rename(source.with_name("elsewhere"))
    staging.step()
    staging.step()
    assert set(served(staging)) == {"1"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_model_of_which_no_version_fits_is_refused_at_the_start_by_the_newest(source: Path) -> None:
    with pytest.raises(ArtifactError, match="has no version folder; run: make export"):
        begun(source)
    (make(source, 1) / "saved_model.pb").unlink()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb is missing"):
        begun(source)


def test_links_of_a_run_before_are_removed_at_the_start(source: Path) -> None:
    make(source, 1)
    staging = begun(source)
    make(source, 2)
    again = begun(source)
    assert again.bases == staging.bases
    assert set(served(again)) == {"2"}


def test_a_version_whose_last_file_comes_while_it_is_compared_is_served_with_the_next_look(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(source, 1)
    staging = begun(source)
    whole = make(source, 2) / "saved_model.pb"
    text = whole.read_text()
    whole.unlink()
    real = staging_module.verify

    def verify_while_it_comes(folder: Path) -> object:
        try:
            return real(folder)
        finally:
            whole.write_text(text)

    monkeypatch.setattr(staging_module, "verify", verify_while_it_comes)
    staging.step()
    assert set(served(staging)) == {"1"}
    monkeypatch.undo()
    staging.step()
    assert set(served(staging)) == {"2"}


def test_a_version_that_could_not_be_read_is_looked_at_again_though_nothing_changed(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make(source, 1)
    staging = begun(source)
    make(source, 2)

    def fail(folder: Path) -> object:
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr(staging_module, "verify", fail)
    staging.step()
    staging.step()
    assert set(served(staging)) == {"1"}
    assert len(refusals(caplog)) == 1
    monkeypatch.undo()
    staging.step()
    assert set(served(staging)) == {"2"}


def test_a_folder_that_somebody_removed_is_made_again_with_the_next_version(source: Path) -> None:
    make(source, 1)
    staging = begun(source)
    shutil.rmtree(staging.bases["m"])
    make(source, 2)
    staging.step()
    assert served(staging) == {"2": source / "2"}


def test_a_fault_in_following_one_model_is_logged_and_the_others_are_followed(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = source.parent.parent / "other" / "saved_model"
    other.mkdir(parents=True)
    make(source, 1)
    make(other, 1, "other")
    staging = Staging({"m": source, "other": other}, source.parent.parent.parent / "served")
    staging.begin()
    shutil.rmtree(staging.bases["m"])
    staging.bases["m"].write_text("in the way")
    make(source, 2)
    make(other, 2, "other")
    staging.step()
    assert [path.name for path in staging.bases["other"].iterdir()] == ["2"]
    assert "m: following its versions failed" in caplog.text


def test_the_newest_of_several_versions_that_do_not_fit_is_named_at_the_start(source: Path) -> None:
    for version in (1, 2):
        (make(source, version) / "saved_model.pb").unlink()
    with pytest.raises(ArtifactError, match=r"/2/saved_model\.pb is missing"):
        begun(source)
