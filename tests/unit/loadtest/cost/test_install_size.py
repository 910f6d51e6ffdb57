"""Install sizes on a made-up folder of installed distributions."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

from loadtest.cost.figures import MIB
from loadtest.cost.install_size import closure, install_size

PYPROJECT = """
[project]
name = "ours"
dependencies = []
[project.optional-dependencies]
wire = ["Plain_Package"]
svc = ["ours[wire]", "big[fast]>=1", "elsewhere; sys_platform == 'win32'"]
bad = ["gone"]
"""


class Site:
    """A folder like site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.pyproject = folder / "pyproject.toml"
        self.pyproject.write_text(PYPROJECT)

    def install(self, name: str, size: int, requires: Sequence[str] = ()) -> None:
        """Install a distribution with one file of `size` bytes; RECORD names one more, which is not there."""
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requires)]
        (info / "METADATA").write_text("\n".join(lines))
        (self.folder / f"{name}.py").write_bytes(b"#" * size)
        (info / "RECORD").write_text(f"{name}.py,,\n{name}-gone.pyc,,\n")

    def find(self, name: str) -> metadata.Distribution:
        for found in metadata.distributions(name=name, path=[str(self.folder)]):
            return found
        raise metadata.PackageNotFoundError(name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.install("plain_package", 3 * MIB)
    site.install("big", 10 * MIB, ["inner", "speedy; extra == 'fast'", "notes; extra == 'docs'"])
    site.install("inner", MIB, ["big"])
    site.install("speedy", 2 * MIB)
    return site


def test_a_closure_follows_extras_of_ours_and_of_others_and_leaves_out_other_platforms(site: Site) -> None:
    assert set(closure("svc", site.find, site.pyproject)) == {"plain-package", "big", "inner", "speedy"}


def test_the_install_size_is_the_sum_of_the_files_that_are_there(site: Site) -> None:
    figure = install_size("svc", site.find, site.pyproject)
    assert (figure.value, figure.unit) == (16.0, "MiB")
    assert "4 distributions: the extra svc and all it requires; big 10, plain-package 3, speedy 2" in figure.note


def test_what_is_not_installed_is_named_and_nothing_is_summed(site: Site) -> None:
    figure = install_size("bad", site.find, site.pyproject)
    assert (figure.value, figure.note) == (None, "gone of the extra bad is not installed here")
