from pathlib import Path

import pytest

from servepath.artifacts.manifest import ArtifactError
from servepath.demo.stages import StageFailed
from studies.foreign.throughput import check_paths, parse_args


def test_a_path_that_the_model_lacks_is_named_before_anything_starts(tmp_path: Path) -> None:
    options = parse_args(["mine", "--also", "litert"])
    with pytest.raises(StageFailed, match=r"^mine has no path on litert; it has onnx, onnx:int8$"):
        check_paths(options, ["onnx", "onnx:int8"], tmp_path)


def test_a_path_in_a_reduced_precision_needs_its_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        check_paths(parse_args(["mine", "--also", "onnx:int8"]), ["onnx", "onnx:int8"], tmp_path)
