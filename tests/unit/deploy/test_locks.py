from pathlib import Path
from typing import Any

import pytest

from deploy.locks import HEAD, main, read, render


def installed(name: str, version: str, sha256: str) -> dict[str, Any]:
    """One entry of pip's installation report."""
    archive = {"archive_info": {"hashes": {"sha256": sha256}}}
    return {"metadata": {"name": name, "version": version}, "download_info": archive}


def test_a_lock_has_a_line_with_a_hash_for_each_package_but_ourselves(tmp_path: Path) -> None:
    report = {
        "install": [installed("b", "2.0+cpu", "ff"), installed("A", "1", "00"), installed("servepath", "0", "11")]
    }
    text = render(report)
    (tmp_path / "lock.txt").write_text(text)
    assert text == HEAD + "A==1 --hash=sha256:00\nb==2.0 --hash=sha256:ff\n"
    assert read(tmp_path / "lock.txt") == {"A": "1", "b": "2.0"}


def test_another_python_than_the_images_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proto"], "3.13") == 1
    said = "servepath locks: the images have Python 3.11; run: make clean setup NEWEST=python3.11\n"
    assert capsys.readouterr().err == said
