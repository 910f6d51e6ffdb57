"""The gate's orchestration on a small repository with a stand-in for the services; only its answers are made up."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pyarrow import parquet

from export import provenance
from loadtest.gate import trees
from loadtest.gate.children import GateError
from tests.integration.loadtest.made_up import MadeUp, make
from tests.limits import LONG_S
from tests.said import read_until

pytestmark = pytest.mark.slow

# A p50 takes 11 requests.
QUICK = ("--paths=line@onnx", "--via=direct", "--rate=500", "--duration=0.05", "--min-requests=25", "--warmup=0.2")


@pytest.fixture
def made(tmp_path: Path) -> MadeUp:
    return make(tmp_path)


def left(made: MadeUp) -> Iterator[psutil.Process]:
    """Yield every process that works in the repository or in the gate's temporary folders."""
    for process in psutil.process_iter():
        try:
            place = Path(process.cwd().removesuffix(" (deleted)"))
        except (psutil.Error, OSError):
            continue
        if place.is_relative_to(made.folder) or place.is_relative_to(made.temporary):
            yield process


def assert_nothing_is_left(made: MadeUp) -> None:
    _, alive = psutil.wait_procs(list(left(made)), timeout=LONG_S)
    assert alive == []
    assert list(made.temporary.iterdir()) == []
    assert len(made.git("worktree", "list").splitlines()) == 1


def test_both_trees_are_served_by_their_own_code_loaded_in_one_run_judged_and_stopped(made: MadeUp) -> None:
    made.write("servepath/runner/behaviour.json", '{"engine_version": "changed", "delay_s": 0.003}')
    with made.start("loadtest", "gate", "--ref=HEAD", "--rounds=11", *QUICK) as gate:
        text, _ = gate.communicate(timeout=LONG_S)

    run = (made.folder / "results/gate/latest").resolve()
    commit = made.git("rev-parse", "HEAD")[:7]
    for side, version in ((f"ref-{commit}", "committed"), (f"tree-{commit}-dirty", "changed")):
        files = list(run.glob(f"rows/*~{side}.parquet"))
        assert len(files) == 11, text
        answered = {row for file in files for row in parquet.read_table(file)["engine_version"].to_pylist()}
        assert answered == {version}
    assert f"gate: ref: {commit}; working tree: {commit}, with uncommitted changes" in text
    again = subprocess.run(
        [sys.executable, "-m", "report", "gate", run], cwd=made.folder, capture_output=True, text=True, check=False
    )
    # On a machine too busy to measure on, the run is not valid and nothing can be told.
    assert gate.returncode == again.returncode in {3, 4}, text
    assert text.endswith(again.stdout[-200:])
    assert_nothing_is_left(made)


@pytest.mark.parametrize("sign", ["gate: models:", " measurements, open loop"])
def test_ctrl_c_stops_everything_and_leaves_nothing(made: MadeUp, sign: str) -> None:
    with made.start("loadtest", "gate", "--ref=HEAD", *QUICK) as gate:
        read_until(gate, sign)
        gate.send_signal(signal.SIGINT)
        text = gate.stdout.read()
        assert gate.wait(LONG_S) == 130, text

    assert "Traceback" not in text, text
    assert_nothing_is_left(made)


def test_a_server_that_does_not_start_is_exit_code_1_and_leaves_nothing(made: MadeUp) -> None:
    made.write("servepath/runner/behaviour.json", '{"nothing": 1}')
    with made.start("loadtest", "gate", "--ref=HEAD", *QUICK) as gate:
        text, _ = gate.communicate(timeout=LONG_S)

    assert gate.returncode == 1
    assert "servepath.runner up onnx_svc gateway" in text.splitlines()[-1]
    assert_nothing_is_left(made)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--ref=nowhere",), 1, "'nowhere' is not a commit of this repository"),
        (("--ref=HEAD", "--paths=line@tfserving"), 1, "'line@tfserving' is not a path; known: line@onnx, or all"),
        (("--ref=HEAD", "--rate=0"), 2, "argument --rate: '0' is not a number above 0"),
        (("--ref=HEAD", "--side=a=b"), 2, "--side, --worker, --workers and --listen cannot be given"),
        ((), 2, "the following arguments are required: --ref"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(made: MadeUp, words: tuple[str, ...], code: int, said: str) -> None:
    with made.start("loadtest", "gate", *words) as gate:
        text, _ = gate.communicate(timeout=LONG_S)
    assert gate.returncode == code, text
    assert said in text.splitlines()[-1]
    assert_nothing_is_left(made)


def test_a_path_that_the_ref_does_not_have_is_refused_by_name_and_left_out_of_all(made: MadeUp) -> None:
    made.write(
        "deployments.toml",
        "[models.line]\ndefault = 'onnx'\n[models.line.stacks.onnx]\n[models.line.stacks.torchserve]\n",
    )
    with made.start("loadtest", "gate", "--ref=HEAD", "--paths=line@torchserve") as gate:
        text, _ = gate.communicate(timeout=LONG_S)
    assert (gate.returncode, text.splitlines()[-1]) == (
        1,
        "servepath gate: --paths: the ref does not have line@torchserve",
    )
    with made.start("loadtest", "gate", "--ref=HEAD", *QUICK[1:]) as gate:
        assert gate.stdout is not None
        assert "gate: line@torchserve is skipped: the ref does not have it\n" in gate.stdout
        gate.send_signal(signal.SIGINT)
        gate.stdout.read()
    assert_nothing_is_left(made)


def test_what_is_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="is not a git repository; run the gate in a clone"):
        trees.repository(tmp_path)


def prepared(made: MadeUp, exports: Path) -> tuple[trees.Tree, trees.Tree, list[str], list[str]]:
    """Return the two trees, what was said, and what was made in the ref's folder."""
    here, said = trees.repository(made.folder), list[str]()
    commit = trees.commit_of(here, "HEAD")
    with trees.checkout(here, commit) as place:
        found = trees.prepare(here, commit, place, exports, said.append)
        link = place / ".venv"
        linked = [str(link.readlink())] if link.is_symlink() else []
        return *found, said, [*linked, *(place / "made").read_text().split()]


def test_what_is_the_same_is_shared(made: MadeUp) -> None:
    exports = made.folder / "artifacts/exports"
    ref, tree, said, done = prepared(made, exports)
    assert (ref.exports, tree.exports) == (exports, exports)
    assert done == [sys.prefix, "setup"]
    assert Path(sys.prefix, "bin/python").exists()  # the folder went, and not what it pointed at
    assert "with uncommitted" not in said[0]
    assert [line.split(":")[0] for line in said] == ["ref", "environment", "models"]


def test_a_ref_of_other_requirements_gets_an_environment_and_models_of_its_own(made: MadeUp) -> None:
    made.write("constraints.txt", "numpy==1\n")
    ref, tree, _, done = prepared(made, made.folder / "artifacts/exports")
    assert done == ["setup", "train", "export"]
    assert ref.exports != tree.exports
    assert ref.python == ref.folder / ".venv/bin/python"


@pytest.mark.parametrize("name", ["export/format.py", "training/new.py", "services/torch_svc/handler.py"])
def test_where_what_shapes_a_model_differs_each_tree_makes_its_own(made: MadeUp, name: str) -> None:
    made.write(name, "changed = True\n")
    ref, tree, _, done = prepared(made, made.folder / "artifacts/exports")
    assert done == [sys.prefix, "setup", "train", "export"]
    assert (made.folder / "made").read_text().split() == ["train", "export"]
    assert ref.exports == ref.folder / "artifacts/exports" != tree.exports


def test_a_ref_that_cannot_start_its_services_is_refused(made: MadeUp) -> None:
    made.git("rm", "-q", "-r", "servepath/runner")
    made.git("commit", "-q", "-m", "without")
    with pytest.raises(GateError, match=r"has no servepath/runner/__main__\.py"):
        prepared(made, made.folder)
    assert len(made.git("worktree", "list").splitlines()) == 1


def test_the_sources_that_shape_a_model_are_those_of_the_export() -> None:
    root = trees.repository(Path.cwd()).folder
    assert {name for name in trees.MAKERS if not (root / name).exists()} == set()
    # A folder has all that is below it.
    named = {pattern.partition("/")[0] if "*" in pattern else pattern for pattern in provenance.SOURCES}
    assert named <= set(trees.MAKERS)
