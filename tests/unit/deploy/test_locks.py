from pathlib import Path
from typing import Any

import pytest

from deploy.locks import HEAD, Lock, main, read, render


def installed(name: str, version: str, sha256: str, *needs: str) -> dict[str, Any]:
    """One entry of pip's installation report."""
    archive = {"archive_info": {"hashes": {"sha256": sha256}}}
    return {"metadata": {"name": name, "version": version, "requires_dist": [*needs]}, "download_info": archive}


def test_a_lock_has_a_line_with_a_hash_for_each_package_but_ourselves(tmp_path: Path) -> None:
    ours = installed("servepath", "0", "11", "A[fast]", 'b; extra == "onnx"', 'c; extra == "torch"')
    report = {
        "install": [
            installed("b", "2.0+cpu", "ff"),
            installed("A", "1", "00", 'D_e>=1; extra == "fast"'),
            installed("d-e", "3", "22"),
            ours,
        ]
    }
    text = render(report, Lock(("onnx",)))
    (tmp_path / "lock.txt").write_text(text)
    assert text == HEAD + "A==1 --hash=sha256:00\nb==2.0 --hash=sha256:ff\nd-e==3 --hash=sha256:22\n"
    assert read(tmp_path / "lock.txt") == {"A": "1", "b": "2.0", "d-e": "3"}


def test_what_nothing_imports_is_left_out_with_what_it_alone_needs() -> None:
    report = {
        "install": [
            installed("servepath", "0", "11", 'tokens; extra == "gateway"', 'shared; extra == "gateway"'),
            installed("tokens", "1", "22", "the_hub<3"),
            installed("the-hub", "2", "33", "shared", "alone"),
            installed("shared", "3", "44"),
            installed("alone", "4", "55"),
        ]
    }
    text = render(report, Lock(("gateway",), left_out=frozenset({"the-hub"})))
    assert text == HEAD + "shared==3 --hash=sha256:44\ntokens==1 --hash=sha256:22\n"


def test_another_python_than_the_images_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proto"], "3.13") == 1
    said = "servepath locks: the images have Python 3.11; run: make clean setup NEWEST=python3.11\n"
    assert capsys.readouterr().err == said
