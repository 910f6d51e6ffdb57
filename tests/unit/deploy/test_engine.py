import os
from pathlib import Path

import pytest

from deploy.engine import Engine, EngineError, ensure_base
from deploy.engine.base_images import portable
from deploy.engine.client import find

# A docker program whose engine answers at one address alone, and has one image and one substitute.
DOCKER = """\
#!/bin/sh
case "$DOCKER_HOST $*" in
"unix:///good version"*) echo 20.10.24 ;;
*"context inspect"*) echo unix:///context ;;
"unix:///good image inspect"*"Id"*" here:1") echo sha256:00 ;;
"unix:///good image inspect"*"Id"*" python:3.11-slim-bookworm") echo sha256:01 ;;
"unix:///good image inspect"*"Labels"*" python:3.11-slim-bookworm") echo Debian ;;
"unix:///good image inspect"*"Labels"*) ;;
"unix:///good image inspect"*"Size"*) echo 1234 ;;
*) echo "first line" >&2; echo "no such thing: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> str:
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    return str(program)


def test_the_engine_that_docker_host_names_is_found(docker: str) -> None:
    found = find(["unix:///other"], {"DOCKER_HOST": "unix:///good"}, [docker])
    assert found == Engine(docker, "unix:///good", "20.10.24", own=False)


def test_one_of_ours_is_found_when_the_named_one_is_silent(docker: str) -> None:
    found = find(["unix:///silent", "unix:///good"], {}, [docker])
    assert found == Engine(docker, "unix:///good", "20.10.24", own=True)


def test_no_engine_is_found_where_none_answers_or_no_client_is(docker: str) -> None:
    assert find(["unix:///silent"], {}, [docker]) is None
    assert find(["unix:///good"], {}, ["/nowhere/docker"]) is None


def test_programs_are_told_where_the_engine_is_and_ours_has_the_classic_builder_alone() -> None:
    ours = Engine("docker", "unix:///good", "20.10.24", own=True).environment()
    other = Engine("docker", "unix:///good", "28.0.0", own=False).environment()
    assert (ours["DOCKER_HOST"], ours["DOCKER_BUILDKIT"]) == ("unix:///good", "0")
    assert (other["DOCKER_HOST"], other.get("DOCKER_BUILDKIT")) == ("unix:///good", os.environ.get("DOCKER_BUILDKIT"))


def test_a_refusal_is_one_line_and_the_last_one_of_dockers(docker: str) -> None:
    engine = Engine(docker, "unix:///good", "20.10.24", own=True)
    with pytest.raises(EngineError, match=r"^docker pull x:1: no such thing: pull x:1$"):
        engine.ask("pull", "x:1")


def test_a_base_that_is_there_is_taken(docker: str) -> None:
    engine = Engine(docker, "unix:///good", "20.10.24", own=True)
    assert (ensure_base(engine, "here:1"), engine.size("here:1")) == ("present", 1234)


def test_a_stand_in_serves_for_the_digest_that_cannot_be_pulled_and_is_called_one(docker: str) -> None:
    engine = Engine(docker, "unix:///good", "20.10.24", own=True)
    assert ensure_base(engine, "python:3.11-slim-bookworm") == "substitute"
    assert ensure_base(engine, f"python:3.11-slim-bookworm@sha256:{'0' * 64}") == "substitute"


def test_a_base_that_cannot_be_pulled_and_has_no_stand_in_is_named(docker: str) -> None:
    engine = Engine(docker, "unix:///good", "20.10.24", own=True)
    with pytest.raises(EngineError, match=r"^tensorflow/serving:1 cannot be pulled, and there is no substitute for it"):
        ensure_base(engine, "tensorflow/serving:1")


def test_a_python_that_bookworm_does_not_have_gets_no_stand_in(docker: str) -> None:
    engine = Engine(docker, "unix:///good", "20.10.24", own=True)
    with pytest.raises(EngineError, match=r"bookworm has no other Python than 3\.11"):
        ensure_base(engine, "python:3.12-slim-bookworm")


def test_pips_settings_reach_a_stand_in_without_this_machines_folders() -> None:
    listing = (
        "global.cert='/ca.crt'\nglobal.extra-index-url='file:///opt/index https://index.example/simple'\n"
        "global.user='true'\n:env:.cert='/other.crt'\n:env:.find-links='/opt/wheels'\n"
    )
    assert portable(listing) == {
        "cert": "/other.crt",
        "find-links": "/opt/wheels",
        "extra-index-url": "https://index.example/simple",
    }
