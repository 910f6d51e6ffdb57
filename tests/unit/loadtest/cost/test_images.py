"""Image sizes, from a program that answers as docker does."""

from pathlib import Path

from loadtest.cost.images import image_size

DOCKER = """#!/bin/sh
case "$*" in
"compose config --images onnx_svc") echo servepath/onnx_svc:1 ;;
"image inspect --format {{.Size}} servepath/onnx_svc:1") echo 314572800 ;;
*) echo "no such image" >&2; exit 1 ;;
esac
"""


def docker(folder: Path) -> str:
    program = folder / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    return str(program)


def test_the_image_that_compose_names_is_asked_for_its_size(tmp_path: Path) -> None:
    figure = image_size("onnx_svc", docker(tmp_path))
    assert (figure.value, figure.note) == (300.0, "docker image inspect servepath/onnx_svc:1, unpacked")


def test_an_image_that_is_not_there_is_not_measured(tmp_path: Path) -> None:
    figure = image_size("tf_svc", docker(tmp_path))
    assert (figure.value, figure.note) == (None, "docker has no image of tf_svc here")


def test_a_machine_without_docker_says_so(tmp_path: Path) -> None:
    figure = image_size("tf_svc", str(tmp_path / "gone"))
    assert (figure.value, figure.note) == (None, "docker is not installed")
