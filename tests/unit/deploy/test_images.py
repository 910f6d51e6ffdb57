from pathlib import Path

from deploy.builder.images import IMAGES, Built, declared, read_variables, tag


def built(added: int) -> Built:
    return Built("gateway", "servepath/gateway:1", "present", 1.0, 200_000_000, added)


def test_an_image_may_add_its_limit_to_its_base_and_not_a_byte_more() -> None:
    assert IMAGES["gateway"].limit_mb == 70
    assert not built(70_000_000).too_large()
    assert built(70_000_001).too_large()


def test_an_image_without_a_limit_is_never_too_large() -> None:
    assert not Built("pipeline", "servepath/pipeline:1", "present", 1.0, 9 * 10**9, 9 * 10**9).too_large()


def test_a_line_says_what_was_built_on_what() -> None:
    assert str(built(61_000_000)) == ("servepath/gateway:1: 200 MB, 61 of at most 70 over its base (present), 1 s")


def test_digests_win_over_tags_and_the_environment_over_both(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A_IMAGE=a:1\nB_IMAGE=b:1\nSERVEPATH_TAG=7\n")
    (tmp_path / "images.lock").write_text("A_IMAGE=a:1@sha256:00\nB_IMAGE=b:1@sha256:00\n")
    variables = read_variables(tmp_path, {"B_IMAGE": "mine:1"})
    assert (variables["A_IMAGE"], variables["B_IMAGE"]) == ("a:1@sha256:00", "mine:1")
    assert tag("gateway", variables) == "servepath/gateway:7"


def test_build_arguments_are_found_with_and_without_a_default() -> None:
    assert declared("ARG BASE\nFROM ${BASE}\nARG DEVICE=cpu\nRUN echo ARG no\n") == {"BASE", "DEVICE"}
