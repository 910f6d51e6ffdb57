"""No model is special: beyond its folder, the list of paths, documents and tests, no tracked file names one."""

import re
from pathlib import PurePosixPath

from models.registry import read_models
from tests.contract.registries import ROOT
from tests.contract.test_sources import tracked

# Where models are named: what they are, where they are served, and what people and tests are shown.
PLACES = ("models/", "deployments.toml", "docs/", "README.md", "CHANGELOG.md", "findings/", "tests/")


def test_no_other_file_names_a_model() -> None:
    names = re.compile(rf"\b(?:{'|'.join(map(re.escape, read_models()))})\b")
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in tracked()}
    found = {name for name, text in texts.items() if names.search(text) or names.search(name)}
    assert {name for name in found if not name.startswith(PLACES)} == set()
    assert {PurePosixPath(name).parts[0] for name in found} >= {"models", "deployments.toml"}
