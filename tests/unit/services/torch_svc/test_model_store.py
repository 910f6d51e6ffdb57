"""The model store takes verified archives only."""

import json
from pathlib import Path

import pytest

from servepath.artifacts.manifest import MANIFEST, ArtifactError, artifact_folder, digest, hash_files
from services.torch_svc import model_store
from tests.manifests import write_manifest


def export(exports: Path, model: str, version: int, content: bytes, *, artifact_format: str = "mar") -> Path:
    folder = artifact_folder(exports, model, artifact_format, version)
    folder.mkdir(parents=True)
    (folder / f"{model}.{artifact_format.partition('-')[0]}").write_bytes(content)
    write_manifest(folder, model, artifact_format, version)
    (exports / model / "current").write_text(str(version))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return tmp_path / "exports"


def test_the_current_version_of_every_model_with_an_archive_is_copied(exports: Path, store: Path) -> None:
    export(exports, "one", 1, b"old")
    export(exports, "one", 2, b"new")
    export(exports, "two", 7, b"two")
    export(exports, "other", 1, b"", artifact_format="onnx")
    manifests = model_store.fill(exports, store)
    assert {model: manifest.version for model, manifest in manifests.items()} == {"one": 2, "two": 7}
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {"one.mar": b"new", "two.mar": b"two"}


def test_an_archive_cut_in_half_is_refused_by_name_with_the_fix(exports: Path, store: Path) -> None:
    archive = export(exports, "one", 1, b"whole archive") / "one.mar"
    archive.write_bytes(archive.read_bytes()[:6])
    with pytest.raises(ArtifactError, match=f"{archive} does not match its manifest.*make export"):
        model_store.fill(exports, store)


def test_a_manifest_of_other_contents_is_refused(exports: Path, store: Path) -> None:
    path = export(exports, "one", 1, b"archive") / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match="make export"):
        model_store.fill(exports, store)


def test_an_artifact_that_holds_no_archive_is_refused(exports: Path, store: Path) -> None:
    folder = export(exports, "one", 1, b"archive")
    files = {"other.mar": hash_files(folder)["one.mar"]}
    (folder / "one.mar").rename(folder / "other.mar")
    path = folder / MANIFEST
    changes = {"files": files, "contents": files, "sha256": digest(files)}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ArtifactError, match=r"holds no one\.mar.*make export"):
        model_store.fill(exports, store)


def test_no_archive_at_all_is_refused(exports: Path, store: Path) -> None:
    with pytest.raises(ArtifactError, match="make export"):
        model_store.fill(exports, store)


def test_a_damaged_archive_of_a_reduced_precision_is_left_out_and_said(
    exports: Path, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(exports, "one", 1, b"whole")
    export(exports, "two", 1, b"whole")
    export(exports, "two", 1, b"reduced", artifact_format="mar-bf16")
    (export(exports, "one", 1, b"reduced", artifact_format="mar-bf16") / "one.mar").write_bytes(b"cut")
    assert list(model_store.fill(exports, store)) == ["one", "two", "two@torchserve:bf16"]
    assert "one@torchserve:bf16 is not served before another start" in caplog.text
    assert (store / "two@torchserve:bf16.mar").read_bytes() == b"reduced"
