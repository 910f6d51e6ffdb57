import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from servepath.artifacts.manifest import MANIFEST, ArtifactError
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.types import Provenance
from services.gateway.artifacts import MAX_MISSED, REFRESH_S, Artifacts
from tests.exports import make_export
from tests.manifests import SPEC


class Disk:
    """An exports folder with version 1 as the current one, and a clock that the test turns."""

    def __init__(self, exports: Path) -> None:
        self.now = 100.0
        make_export(exports, "m", "onnx", 2)
        self._folder = exports / "m" / "onnx"
        self._hidden = exports / "hidden"
        self._folder.joinpath("2").rename(self._hidden)
        make_export(exports, "m", "onnx", 1)
        self.artifacts = Artifacts(exports, "m", "onnx", lambda: self.now)

    def show(self) -> None:
        """Put version 2 there."""
        shutil.copytree(self._hidden, self._folder / "2")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_version_that_a_server_answered_with_is_looked_up_at_once(disk: Disk) -> None:
    assert disk.artifacts.find(7) is None
    disk.show()
    found = disk.artifacts.find_served(2)
    assert found is not None
    assert found.version == 2
    assert disk.artifacts.known == [1, 2]


def test_a_served_version_without_a_manifest_is_looked_for_once_in_a_while(disk: Disk) -> None:
    assert disk.artifacts.find_served(2) is None
    disk.show()
    assert disk.artifacts.find_served(2) is None
    disk.now += REFRESH_S
    assert disk.artifacts.find_served(2) is not None


def test_a_foreign_manifest_is_none_and_once_repaired_it_is_known(disk: Disk, tmp_path: Path) -> None:
    make_export(tmp_path / "others", "other", "onnx", 2)
    shutil.copytree(tmp_path / "others" / "other" / "onnx" / "2", tmp_path / "m" / "onnx" / "2")
    assert disk.artifacts.versions == [1]
    assert disk.artifacts.find_served(2) is None
    shutil.rmtree(tmp_path / "m" / "onnx" / "2")
    disk.show()
    disk.now += REFRESH_S
    found = disk.artifacts.find_served(2)
    assert found is not None
    assert found.model == "m"


def test_a_manifest_is_read_again_where_a_server_answers_with_another_hash(disk: Disk, tmp_path: Path) -> None:
    disk.show()
    before = disk.artifacts.find_served(2)
    assert before is not None
    served = Provenance("m", "onnx", "", "", 2, "of another export", sha256_observed=True)
    with pytest.raises(BackendBadReply, match="other than the one in the manifest"):
        disk.artifacts.identified(served)
    file = tmp_path / "m" / "onnx" / "2" / MANIFEST
    file.write_text(file.read_text().replace(before.sha256, served.sha256))
    disk.now += REFRESH_S
    assert disk.artifacts.identified(served) == served


@pytest.mark.parametrize(("said", "precision"), [("fp32", "int8"), ("tf32", "tf32"), ("", "")])
def test_what_does_not_name_its_artifact_is_of_the_precision_in_the_manifest_unless_it_reduces_it(
    tmp_path: Path, said: str, precision: str
) -> None:
    manifest = make_export(tmp_path, "m", "saved_model", spec=replace(SPEC, precision="int8"))
    served = Provenance("m", "tfserving", "", "", 1, "", sha256_observed=False, precision=said)
    found = Artifacts(tmp_path, "m", "saved_model").identified(served)
    assert (found.sha256, found.precision) == (manifest.sha256, precision)


def test_a_current_version_that_is_another_artifact_is_refused_at_the_start(tmp_path: Path) -> None:
    make_export(tmp_path, "m", "onnx", 1)
    make_export(tmp_path / "others", "other", "onnx", 1)
    shutil.copy(tmp_path / "others/other/onnx/1" / MANIFEST, tmp_path / "m/onnx/1" / MANIFEST)
    with pytest.raises(ArtifactError, match="m/onnx/1 is another artifact, by its manifest; remove it and run: make "):
        Artifacts(tmp_path, "m", "onnx")


def test_one_missing_version_does_not_hide_another(disk: Disk) -> None:
    assert disk.artifacts.find_served(3) is None
    disk.show()
    assert disk.artifacts.find_served(2) is not None


def test_a_listing_finds_a_version_that_was_missed(disk: Disk) -> None:
    assert disk.artifacts.find_served(2) is None
    disk.show()
    assert disk.artifacts.versions == [1, 2]
    assert disk.artifacts.find_served(2) is not None


def test_any_number_of_missing_versions_is_remembered_within_a_bound(disk: Disk) -> None:
    for version in range(10, 10 + MAX_MISSED + 1):
        assert disk.artifacts.find_served(version) is None
    disk.show()
    assert disk.artifacts.find_served(2) is not None


def test_a_version_that_is_gone_from_the_disk_is_not_listed_and_what_still_answers_with_it_is_known(
    disk: Disk, tmp_path: Path
) -> None:
    disk.show()
    assert disk.artifacts.versions == [1, 2]
    shutil.rmtree(tmp_path / "m" / "onnx" / "2")
    disk.now += REFRESH_S
    assert (disk.artifacts.versions, disk.artifacts.known) == ([1], [1])
    served = Provenance("m", "onnx", "", "", 2, "", sha256_observed=False)
    assert disk.artifacts.identified(served).sha256
    disk.show()
    assert disk.artifacts.look() == [1, 2]
