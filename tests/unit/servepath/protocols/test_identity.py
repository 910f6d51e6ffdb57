"""Who answered, where replies do not say it."""

from pathlib import Path

import pytest

from servepath.protocols.identity import engine_of
from servepath.protocols.stacks import STACKS, service_files

NAMED = (
    ("x-servepath-engine", "embedded"),
    ("x-servepath-engine-version", "tensorflow 2.21.0"),
    ("x-servepath-precision", "fp32"),
)


def test_the_engine_is_the_one_that_the_trailing_metadata_names(tmp_path: Path) -> None:
    find = engine_of(STACKS["tfserving"], service_files({}, tmp_path))
    assert find(NAMED) == ("embedded", "tensorflow 2.21.0", "fp32")
    assert find(NAMED[:2]) == ("embedded", "tensorflow 2.21.0", "")


@pytest.mark.parametrize("silent", [None, (), NAMED[:1]])
def test_a_silent_server_is_the_product_in_the_version_that_its_service_wrote(
    silent: tuple[tuple[str, str], ...] | None, tmp_path: Path
) -> None:
    files = {"TF_SVC_VERSION_FILE": tmp_path / "version"}
    assert engine_of(STACKS["tfserving"], files)(silent) == ("tensorflow_model_server", "version not reported", "")
    files["TF_SVC_VERSION_FILE"].write_text("2.20.0\n")
    assert engine_of(STACKS["tfserving"], files)(silent) == ("tensorflow_model_server", "2.20.0", "fp32")


@pytest.mark.parametrize("stack", ["onnx", "torchserve"])
def test_a_stack_whose_replies_tell_needs_nothing_else(stack: str) -> None:
    assert engine_of(STACKS[stack], {})(NAMED) == ("", "", "")
