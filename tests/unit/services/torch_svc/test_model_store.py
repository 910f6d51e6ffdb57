"""The model store takes verified archives only."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from servepath.artifacts.manifest import MANIFEST, ArtifactError, artifact_folder, digest, hash_files
from services.torch_svc import model_store
from tests.manifests import write_manifest
from tests.tuned import write_tuned


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


def archive_of(file: Path) -> None:
    described = {"model": {"modelName": "m", "configFile": "model-config.yaml"}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.safetensors", b"w")
        archive.writestr("model-config.yaml", "minWorkers: 1 # one\nmaxWorkers: 1\nbatchSize: 32\njobQueueSize: 512\n")
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(described))


def unpacked(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


def at_root(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_archive_gets_its_tuned_settings_and_stays_the_same_artifact(tmp_path: Path) -> None:
    file = tmp_path / "m.mar"
    archive_of(file)
    before = unpacked(file, tmp_path / "before")

    model_store.configure(file, {"workers": 2, "batch_size": 8, "max_batch_delay_ms": 5, "max_in_flight": 16})

    after = unpacked(file, tmp_path / "after")
    described = json.loads((after / "MAR-INF/MANIFEST.json").read_text())
    settings = yaml.safe_load((after / described["model"]["configFile"]).read_text())
    wanted = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 8, "maxBatchDelay": 5, "jobQueueSize": 512}
    assert settings == wanted
    # The handler hashes the files at the root: the artifact's identity.
    assert at_root(after) == at_root(before)
    assert [path.name for path in tmp_path.glob("m*")] == ["m.mar"]


def test_an_archive_with_tuned_settings_keeps_what_is_stored_unpacked_so(tmp_path: Path) -> None:
    file = tmp_path / "m.mar"
    archive_of(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("packed.bin", b"p" * 1000, zipfile.ZIP_DEFLATED)

    model_store.configure(file, {"workers": 2})

    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.getinfo(name).compress_type for name in ("weights.safetensors", "packed.bin")}
        assert (archive.testzip(), archive.read("packed.bin")) == (None, b"p" * 1000)
    assert kept == {"weights.safetensors": zipfile.ZIP_STORED, "packed.bin": zipfile.ZIP_DEFLATED}


def test_an_archive_without_tuned_settings_of_its_own_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "m.mar"
    archive_of(file)
    before = file.read_bytes()

    model_store.configure(file, {"engine_threads": 2, "max_in_flight": 16})

    assert file.read_bytes() == before


def test_the_copy_of_a_tuned_model_gets_its_settings_and_no_other_copy_does(
    exports: Path, store: Path, tmp_path: Path
) -> None:
    archive_of(tmp_path / "plain.mar")
    content = (tmp_path / "plain.mar").read_bytes()
    export(exports, "one", 1, content)
    export(exports, "two", 1, content)

    model_store.fill(exports, store, write_tuned(tmp_path / "tuned", "one@torchserve", {"workers": 2}))

    assert (unpacked(store / "one.mar", tmp_path / "one") / model_store.CONFIG).is_file()
    assert (store / "two.mar").read_bytes() == content
