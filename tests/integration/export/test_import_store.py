"""`servepath import`, around the model: its store, deployments.toml, the spec file, time, and other imports."""

import ast
import json
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from export.errors import ExportError
from export.importing import store
from export.importing.__main__ import main
from export.importing.deployed import check, deploy
from export.importing.hints import Hints, read_hints
from export.importing.steps import read_onnx
from export.provenance import ROOT
from export.stage import LOCK
from servepath.artifacts.manifest import verify
from servepath.cli.children import run_and_wait
from servepath.cli.locked import locked
from tests.hostile_models import model
from tests.limits import LONG_S

DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(0, flush=True); time.sleep(60)"
PARENT = """
import sys
from servepath.cli.children import ending_with_us, run_and_wait
step = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
command, environment = ending_with_us([sys.executable, "-c", step])
run_and_wait(command, environment=environment)
"""
M = '[models.m]\ndefault = "onnx"\n[models.m.stacks.onnx]\n'

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model().SerializeToString())
    return path


@pytest.fixture
def work(tmp_path: Path, source: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    read_onnx(folder, source, Hints(), "m")
    return folder


@pytest.fixture
def run(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*more: str) -> tuple[int, str, str]:
        own = ["--out", str(tmp_path / "exports"), "--deployments", str(tmp_path / "deployments.toml")]
        code = main([str(source), "--name", "m", *own, *more])
        return code, *capsys.readouterr()

    return run


# The store.


def test_who_finds_the_folder_held_leaves_it_to_its_holder(tmp_path: Path, work: Path) -> None:
    folder = tmp_path / "exports" / "m"
    with locked(folder / LOCK):
        (folder / "onnx").mkdir()
        with pytest.raises(ExportError, match="another export of m is running"):
            store.store(tmp_path / "exports", "m", "source", work)
        assert sorted(path.name for path in folder.iterdir()) == [LOCK, "onnx"]


def test_a_first_import_that_fails_leaves_nothing_and_a_later_one_what_was_there(tmp_path: Path, work: Path) -> None:
    exports = tmp_path / "exports"
    found = json.loads((work / store.FOUND).read_text())
    lacking = {**found, "formats": {**found["formats"], "lacking": {"facts": {}, "difference": 0.0}}}
    (work / store.FOUND).write_text(json.dumps(lacking))
    with pytest.raises(FileNotFoundError):  # when the first format is there already
        store.store(exports, "m", "source", work)
    assert list(exports.iterdir()) == []
    (work / store.FOUND).write_text(json.dumps(found))
    assert store.store(exports, "m", "source", work) == (1, ["reference", "onnx"])
    (work / store.FOUND).write_text(json.dumps(lacking))
    with pytest.raises(FileNotFoundError):
        store.store(exports, "m", "another source", work)
    assert (exports / "m" / "current").read_text() == "1\n"
    verify(exports / "m" / "onnx" / "1")


def test_of_two_first_imports_at_once_one_is_whole(tmp_path: Path, work: Path) -> None:
    exports = tmp_path / "exports"

    def try_it(_: int) -> str:
        try:
            store.store(exports, "m", "source", work)
        except ExportError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        assert "" in list(pool.map(try_it, range(4)))
    for artifact_format in ("onnx", "reference"):
        verify(exports / "m" / artifact_format / "1")


def test_the_work_folder_goes_with_the_store_that_it_made(tmp_path: Path) -> None:
    exports = tmp_path / "a" / "exports"
    with store.work_folder(exports) as work:
        (work / "onnx").mkdir()
        # Where services look for MODEL/FORMAT, whatever MODEL is.
        assert list(exports.glob("*/onnx")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_that_a_killed_import_left_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in (".import-killed", ".import-runs", ".import-new", "model"):
        (tmp_path / name / "work").mkdir(parents=True)
        if name != ".import-new":
            os.utime(tmp_path / name, (0, 0))
    with locked(tmp_path / ".import-runs" / LOCK), store.work_folder(tmp_path):
        os.utime(tmp_path / ".import-runs", (0, 0))
    with locked(tmp_path / ".import-runs" / LOCK), store.work_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".import-new", ".import-runs", "model"]


def test_a_fingerprint_changes_with_a_file_and_a_tool(tmp_path: Path) -> None:
    sample = tmp_path / "sample.npz"
    sample.write_bytes(b"1")
    before = store.fingerprint([sample])
    assert before == store.fingerprint([sample])
    assert before != store.fingerprint([sample], (*store.TOOLS, "tensorflow"))
    sample.write_bytes(b"2")
    assert before != store.fingerprint([sample])


def imported_files(file: Path) -> set[Path]:
    """Return the files of export/ that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {ROOT / Path(*name.split(".")).with_suffix(".py") for name in names if name.startswith("export.")}
    return {file for file in files if file.is_file()}


def test_a_fingerprint_covers_all_of_export_that_an_import_uses() -> None:
    used, waiting = set[Path](), set(ROOT.glob("export/importing/*.py"))
    while waiting:
        used |= waiting
        waiting = {file for each in waiting for file in imported_files(each)} - used
    assert {ROOT / "export" / name for name in ("onnx_file.py", "onnx_names.py", "by_name.py", "mar.py")} < used
    assert used <= {file for pattern in store.SOURCES for file in ROOT.glob(pattern)}


@pytest.mark.slow
def test_another_sample_in_a_file_of_the_same_name_is_the_next_version(tmp_path: Path, run: Run) -> None:
    (tmp_path / "spec.toml").write_text('samples = ["sample.npz"]\n')
    for number in (1, 2):
        np.savez(tmp_path / "sample.npz", x=np.full((1, 2), number, np.float32))
        for state in ("written", "was there already"):
            code, out, err = run("--spec", str(tmp_path / "spec.toml"))
            assert code == 0, err
            assert f"onnx: version {number} {state}" in out


# deployments.toml.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", r"\[models\] must be a table, got 3"),
        ("[models]\nm = 3", r"\[models.m\] must be a table, got 3"),
        ('[models]\n"a b" = 3', r'\[models."a b"\] must be a table, got 3'),
        ("[models.m]\nstacks = 3", r"\[models.m.stacks\] must be a table, got 3"),
        ("models = {}", r"\[models.m\] cannot be added to .*; write its models as tables"),
        ("models = [", "cannot be read: "),
        ("\xff", "cannot be read: "),
        ("x = " + "[" * 10_000, "cannot be read: "),
        ("[models.m.stacks.tfserving]", "has m@tfserving, and this model cannot be served on tfserving: take "),
    ],
)
def test_a_deployments_file_that_cannot_take_the_model_is_one_line_before_anything_is_tried(
    tmp_path: Path, run: Run, text: str, said: str
) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ExportError, match=said):
        check(path, "m", ["onnx"])
    code, out, err = run()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("servepath import: ")
    assert path.read_text(encoding="latin-1") == text
    assert sorted(each.name for each in tmp_path.iterdir()) == ["deployments.toml", "model.onnx"]


def test_a_stack_that_is_deployed_and_would_be_gone_names_the_two_ways_out(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(f"{M}[models.m.stacks.tfserving]\n")
    check(path, "m", ["onnx", "tfserving"])
    with pytest.raises(ExportError) as refused:
        check(path, "m", ["onnx"])
    assert str(refused.value) == (
        f"{path} has m@tfserving, and this model cannot be served on tfserving: take [models.m.stacks.tfserving] out "
        "of that file, or choose another --name"
    )


def test_a_path_on_an_external_server_stays_whatever_the_formats_are(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_text(f'[servers.theirs]\nprotocol = "oip"\n{M}[models.m.stacks.theirs]\n')
    check(path, "m", ["onnx"])
    with pytest.raises(ExportError, match="has m@onnx, and this model"):
        check(path, "m", ["tfserving"])


def test_models_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    names = [f"m{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: deploy(path, name, ["onnx"]), names))
    assert sorted(tomllib.loads(path.read_text())["models"]) == names


def test_a_linked_deployments_file_is_written_where_it_is_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "mine.toml", tmp_path / "deployments.toml"
    target.write_bytes(b"# mine\r\n[gateway]\r\n")
    target.chmod(0o640)
    link.symlink_to(target.name)
    deploy(link, "m", ["onnx"])
    assert link.is_symlink()
    assert target.read_bytes() == b"# mine\r\n[gateway]\r\n\n" + M.encode()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.symlink_to(path.name)
    with pytest.raises(ExportError, match="cannot be read"):
        check(path, "m", ["onnx"])


def test_a_name_with_dots_is_quoted_and_one_that_no_model_may_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    deploy(path, "m-1_a.b", ["onnx"])
    assert tomllib.loads(path.read_text()) == {
        "models": {"m-1_a.b": {"default": "onnx", "stacks": {"onnx": {}}}},
    }
    with pytest.raises(ExportError, match="is no model's name"):
        deploy(path, 'm"]', ["onnx"])


# The spec file.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tolerance = 3", "tolerance: expected rtol and atol, or cosine, or top_k, got 3"),
        ("tolerance = {rtol = [1], atol = 1}", "tolerance: "),
        ("ranges = 3", "ranges: expected a table, got 3"),
        ("sizes = []", r"sizes: expected a table, got \[\]"),
        ("names = 3", "names: expected a table"),
        ("[ranges]\nx = 3", r"ranges.x: expected \[lowest, highest\], got 3"),
        ("[ranges]\nx = [1, 2, 3]", r"ranges.x: expected \[lowest, highest\]"),
        ("[ranges]\nx = [0, 1" + "0" * 400 + "]", "ranges.x: "),
        ("[ranges]\nx = [nan, 1]", "ranges.x: "),
        ("[sizes]\nn = 3", "sizes.n: expected a list of whole numbers from 1 on, got 3"),
        ("[sizes]\nn = {a = 1}", "sizes.n: "),
        ("\xff", "cannot be read"),
        ("x = " + "[" * 10_000, "cannot be read"),
    ],
)
def test_a_wrong_spec_file_is_one_line_with_the_key(tmp_path: Path, run: Run, text: str, said: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ExportError, match=said):
        read_hints(path)
    code, out, err = run("--spec", str(path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"servepath import: {path}")


def test_a_range_is_read_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("[ranges]\nx = [0, 1.5]\n")
    assert read_hints(path).ranges == {"x": (0.0, 1.5)}


def test_a_spec_file_that_is_not_there_is_one_line(tmp_path: Path, run: Run) -> None:
    code, out, err = run("--spec", str(tmp_path / "none.toml"))
    assert (code, out, err.count("\n")) == (1, "", 1)


# Time.


def test_the_limit_is_for_all_and_ends_soon(tmp_path: Path, run: Run) -> None:
    code, _, err = run("--limit-s", "0.05")
    assert (code, err) == (
        1,
        "servepath import: 'read onnx' did not end in the 0.05 s of all tries; give them longer: --limit-s\n",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_a_child_that_does_not_notice_ctrl_c_has_as_long_as_is_said() -> None:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_and_wait([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, limit_s=1, cleanup_s=0.1)
    assert time.monotonic() - begin < 30


def test_what_a_child_says_is_text_whatever_its_bytes() -> None:
    script = r"import sys; sys.stdout.buffer.write(b'\xff!')"
    assert run_and_wait([sys.executable, "-c", script], stdout=subprocess.PIPE) == (0, "\ufffd!")


def test_a_program_that_ends_with_us_does() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        step = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    step.wait(LONG_S)


def test_a_step_has_bounds_of_memory_and_of_time_on_each_processor() -> None:
    script = (
        "import json, resource as r; from export.importing.child import bound; bound(1.5); bound(9); "
        "print(json.dumps([r.getrlimit(r.RLIMIT_AS), r.getrlimit(r.RLIMIT_CPU)]))"
    )
    code, said = run_and_wait([sys.executable, "-c", script], stdout=subprocess.PIPE)
    memory, cpu = json.loads(said)
    assert code == 0
    assert 0 < memory[0] == memory[1]
    assert 1.5 <= cpu[0] == cpu[1] <= 1.5 * len(os.sched_getaffinity(0)) + 1


@pytest.mark.slow
def test_a_step_ends_with_an_import_that_is_killed_and_the_next_one_removes_its_folder(
    tmp_path: Path, source: Path, run: Run
) -> None:
    words = [str(source), "--name", "m", "--out", str(tmp_path / "exports"), "--no-deploy"]
    with subprocess.Popen([sys.executable, "-m", "export.importing", *words], stdout=subprocess.DEVNULL) as started:
        parent = psutil.Process(started.pid)
        while not any("export.importing.child" in child.cmdline() for child in parent.children()):
            assert started.poll() is None
            time.sleep(0.01)
        steps = parent.children()
        started.kill()
    assert psutil.wait_procs(steps, LONG_S)[1] == []
    (left,) = (tmp_path / "exports").iterdir()
    os.utime(left, (0, 0))
    assert run()[0] == 0
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["m"]


@pytest.mark.slow
def test_ctrl_c_ends_an_import_soon_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    words = [str(source), "--name", "m", "--out", str(tmp_path / "exports"), "--no-deploy"]
    with subprocess.Popen(
        [sys.executable, "-m", "export.importing", *words], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline().startswith("trying ")
        started.send_signal(signal.SIGINT)
        assert started.wait(LONG_S) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
