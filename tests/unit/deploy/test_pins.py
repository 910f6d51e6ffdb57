from deploy.supply.pins import gaps, named

DIGEST = "sha256:" + "0123456789abcdef" * 4
WANTED = {"PYTHON_IMAGE": "python:3.11-slim-bookworm"}


def test_the_images_are_the_variables_that_end_so() -> None:
    assert named({"PYTHON_IMAGE": "python:3.11", "GATEWAY_PORT": "50051", "EMPTY_IMAGE": ""}) == {
        "PYTHON_IMAGE": "python:3.11"
    }


def test_a_lock_with_every_digest_has_no_gap() -> None:
    assert list(gaps(WANTED, {"PYTHON_IMAGE": f"python:3.11-slim-bookworm@{DIGEST}"})) == []


def test_an_empty_lock_is_no_release() -> None:
    assert list(gaps(WANTED, {})) == ["PYTHON_IMAGE has no digest in images.lock; run: make pin-images"]


def test_a_digest_that_is_cut_is_none() -> None:
    cut = f"python:3.11-slim-bookworm@{DIGEST[:-1]}"
    assert list(gaps(WANTED, {"PYTHON_IMAGE": cut})) == [
        "PYTHON_IMAGE has no digest in images.lock; run: make pin-images"
    ]


def test_a_digest_of_another_tag_does_not_count() -> None:
    old = f"python:3.10-slim@{DIGEST}"
    assert list(gaps(WANTED, {"PYTHON_IMAGE": old})) == [
        f"PYTHON_IMAGE is python:3.11-slim-bookworm in .env and {old} in images.lock; run: make pin-images"
    ]


def test_what_env_no_longer_names_is_told() -> None:
    lock = {"PYTHON_IMAGE": f"python:3.11-slim-bookworm@{DIGEST}", "GONE_IMAGE": f"gone:1@{DIGEST}"}
    assert list(gaps(WANTED, lock)) == ["GONE_IMAGE is in images.lock and not in .env; run: make pin-images"]
