import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servepath.artifacts.manifest import (
    MANIFEST,
    ArtifactError,
    Manifest,
    Parity,
    artifact_folder,
    current_version,
    digest,
    hash_files,
    read_manifest,
    verify,
)
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance, read_spec
from tests.limits import LONG_S

SPEC = Spec(
    (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-6),
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = artifact_folder(tmp_path, "keras_dense", "saved_model", 3)
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph" * 100)
    (folder / "variables" / "variables.index").write_bytes(b"index" * 100)
    files = hash_files(folder)
    manifest = Manifest(
        model="keras_dense",
        format="saved_model",
        version=3,
        spec=SPEC,
        files=files,
        contents=files,
        sha256=digest(files),
        source="0" * 64,
        tools={"keras": "3.15.1"},
        git_commit="unknown",
        parity=Parity(4096, (1, 64), 1e-7, batch_equals_singles=True),
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.to_dict()))
    return folder


def cut(folder: Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(folder: Path) -> None:
    path = folder / "saved_model.pb"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def edit(folder: Path, key: str, value: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def test_a_whole_artifact_is_verified_and_its_manifest_reads_back_as_written(artifact: Path) -> None:
    manifest = verify(artifact)
    assert manifest.version == 3
    assert manifest.spec == SPEC
    assert manifest.parity == Parity(4096, (1, 64), 1e-7, batch_equals_singles=True)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "saved_model.pb does not match its manifest"),
        (flip_a_bit, "saved_model.pb does not match its manifest"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "saved_model.pb is missing"),
        (lambda folder: shutil.rmtree(folder / "variables"), "variables.index is missing"),
        (lambda folder: (folder / "extra.so").write_bytes(b""), "extra.so is not in the manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json is not a manifest"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest.json is not a manifest"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"), "codec can't decode byte 0xff in position 0"),
        (lambda folder: (folder / MANIFEST).write_text("[" * 10**5), "manifest.json is not a manifest"),
        (lambda folder: edit(folder, "schema", 2), "schema 2"),
        (lambda folder: edit(folder, "sha256", "f" * 64), "sha256 is not that of contents"),
        (lambda folder: edit(folder, "contents", {}), "sha256 is not that of contents"),
        (lambda folder: edit(folder, "files", {}), "is not in the manifest"),
        (lambda folder: edit(folder, "files", None), "is not a manifest"),
    ],
)
def test_a_damaged_artifact_is_refused_by_name_and_with_the_fix(
    artifact: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(artifact)
    with pytest.raises(ArtifactError) as refused:
        verify(artifact)
    assert said in str(refused.value)
    assert "make export" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "key", [field.name for field in dataclasses.fields(Manifest) if field.name not in {"probe", "names"}]
)
def test_a_manifest_without_one_of_its_keys_is_refused(artifact: Path, key: str) -> None:
    raw = json.loads((artifact / MANIFEST).read_text())
    del raw[key]
    (artifact / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=key):
        read_manifest(artifact)


def test_the_digest_is_that_of_sha256sums_own_lines(artifact: Path) -> None:
    command = (
        "LC_ALL=C find . -type f ! -name manifest.json | sed 's,^./,,' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    said = subprocess.run(
        ["sh", "-c", command], cwd=artifact, capture_output=True, text=True, timeout=LONG_S, check=True
    )
    assert said.stdout.split()[0] == read_manifest(artifact).sha256


def test_the_current_version_is_read_and_its_absence_names_the_fix(tmp_path: Path) -> None:
    (tmp_path / "simple_nn").mkdir()
    with pytest.raises(ArtifactError, match="has not been exported; run: make export"):
        current_version(tmp_path, "simple_nn")
    (tmp_path / "simple_nn" / "current").write_text("12\n")
    assert current_version(tmp_path, "simple_nn") == 12
    (tmp_path / "simple_nn" / "current").write_text("latest")
    with pytest.raises(ArtifactError, match="does not hold a version number"):
        current_version(tmp_path, "simple_nn")
    (tmp_path / "simple_nn" / "current").unlink()
    (tmp_path / "simple_nn" / "current").mkdir()
    with pytest.raises(ArtifactError, match="current cannot be read: Is a directory"):
        current_version(tmp_path, "simple_nn")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"inputs": 1}', "\x00"])
def test_a_file_that_is_no_spec_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(ValueError, match=r"spec.json is not a model spec .*make train"):
        read_spec(tmp_path / "spec.json")


def test_a_spec_reads_back_as_written(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC.to_dict()))
    assert read_spec(tmp_path / "spec.json") == SPEC
