import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from servepath.artifacts.manifest import ArtifactError, artifact_folder, verify
from servepath.artifacts.reference import read_reference
from studies.peers.models import SIZES, prepare, small_model, tuned
from studies.peers.rows import Tuning
from tests.manifests import write_manifest


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "exports" / "simple_nn").mkdir(parents=True)
    (tmp_path / "exports" / "simple_nn" / "current").write_text("1")
    prepare(tmp_path / "exports", tmp_path / "own", "simple_nn")
    return tmp_path / "own"


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_model_of_the_bench_answers_as_its_reference_says(own: Path, name: str) -> None:
    model = read_reference(own, name)
    folder = artifact_folder(own, name, "onnx", 1)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": model.groups[0]["x"]})
    assert model.groups[0]["x"].shape[1] == SIZES[name]
    np.testing.assert_allclose(y, model.groups[0]["y"], rtol=1e-5, atol=1e-5)
    assert verify(folder).parity.batch_equals_singles


def test_the_small_model_is_the_first_that_every_setup_can_serve(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    one = '[models.{0}]\ndefault = "onnx"\n[models.{0}.stacks.onnx]\n'
    file.write_text(one.format("a") + one.format("b") + "[models.b.stacks.torchserve]\n")
    assert small_model(file) == "b"
    file.write_text(one.format("a"))
    with pytest.raises(ArtifactError, match="no model on all of onnx, torchserve"):
        small_model(file)


def test_what_has_not_been_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="simple_nn has not been exported"):
        prepare(tmp_path / "exports", tmp_path / "own", "simple_nn")


def test_a_tuned_archive_differs_in_its_settings_alone(tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path / "exports", "simple_nn", "mar", 1)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "simple_nn.mar", "w") as archive:
        archive.writestr("model-config.yaml", "batchSize: 32\nmaxBatchDelay: 1\nminWorkers: 1\njobQueueSize: 512\n")
        archive.writestr("handler.py", "# answers\n")
    write_manifest(folder, "simple_nn", "mar", 1)
    (tmp_path / "exports" / "simple_nn" / "current").write_text("1")

    tuned(tmp_path / "exports", tmp_path / "own", "simple_nn", Tuning(256, 5, 2))

    made = artifact_folder(tmp_path / "own", "simple_nn", "mar", 1)
    with zipfile.ZipFile(made / "simple_nn.mar") as archive:
        assert archive.read("handler.py") == b"# answers\n"
        settings = yaml.safe_load(archive.read("model-config.yaml"))
        digest = hashlib.sha256(archive.read("model-config.yaml")).hexdigest()
    expected = {"batchSize": 256, "maxBatchDelay": 5, "minWorkers": 2, "maxWorkers": 2, "jobQueueSize": 512}
    assert settings == expected
    assert verify(made).contents["model-config.yaml"] == digest
