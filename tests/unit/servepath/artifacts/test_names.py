from pathlib import Path

import pytest

from servepath.artifacts.manifest import ArtifactError, artifact_folder, current_version
from servepath.artifacts.names import RESERVED, ModelNameError, check_model_name


@pytest.mark.parametrize("name", ["a", "A1", "simple_nn", "a.b-c_d", "n" * 128, "null2", "All"])
def test_a_model_may_have_an_ordinary_name(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize("name", ["", "a b", "_a", ".a", "a@b", "../a", "n" * 129, "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ModelNameError, match="is no model's name"):
        check_model_name(name)


@pytest.mark.parametrize("name", ["liveness", "readiness", "null", "all"])
def test_a_name_that_means_something_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelNameError, match=rf"no model may be called '{name}', which means {RESERVED[name]}"):
        check_model_name(name)


@pytest.mark.parametrize("name", ["liveness", "readiness", "null", "all"])
def test_no_artifact_is_written_or_read_under_a_reserved_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "current").write_text("1\n")
    with pytest.raises(ArtifactError, match=f"no model may be called '{name}'"):
        artifact_folder(tmp_path, name, "onnx", 1)
    with pytest.raises(ArtifactError, match=f"no model may be called '{name}'"):
        current_version(tmp_path, name)
