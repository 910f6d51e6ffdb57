"""One version: of the package, of what servers say of themselves, and of the images."""

import re
import tomllib

from dotenv import dotenv_values
from packaging.version import Version

from servepath import VERSION
from tests.contract.registries import ROOT


def test_the_package_is_built_with_the_version_of_the_code() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert str(Version(VERSION)) == VERSION
    assert found["project"]["dynamic"] == ["version"]
    assert found["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "servepath.VERSION"}}


def test_the_images_have_the_version_of_the_code_as_their_tag() -> None:
    texts = [path.read_text() for path in (ROOT / "deploy/k8s").rglob("*.yaml")]
    tags = [tag for text in texts for tag in re.findall(r"newTag: ([^\s}]+)", text)]
    assert dotenv_values(ROOT / ".env")["SERVEPATH_TAG"] == VERSION
    assert set(tags) == {VERSION}
