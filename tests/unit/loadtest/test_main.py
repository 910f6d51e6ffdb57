from pathlib import Path

import pytest

from loadtest.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate=0"], "argument --rate: '0' is not a number above 0"),
        (["--rate=nan"], "argument --rate: 'nan' is not a number above 0"),
        (["--duration=x"], "argument --duration: 'x' is not a number above 0"),
        (["--users=0"], "argument --users: '0' is not a whole number from 1"),
        (["--rounds=0"], "argument --rounds: '0' is not a whole number from 1"),
        (
            ["--allow=engine"],
            "argument --allow: invalid choice: 'engine' (choose from 'weights_sha256', ",
        ),
        (["--difference=1"], "argument --difference: '1' is not a number between 0 and 1"),
        (["--difference=0.1", "--via=direct"], "--difference: there are no two paths, ways or sides to compare"),
        (["--difference=0.1", "--rounds=20"], "--rounds: it has no effect beside --difference; leave it out"),
        (["--minutes=15"], "--minutes: it has no effect without --difference; leave it out"),
        (["--processes=0"], "--workers: it must be at least 1, and at least --processes"),
        (["--processes=3", "--workers=2"], "--workers: it must be at least 1, and at least --processes"),
        (["--worker=here"], "argument --worker: 'here' is not HOST:PORT"),
        (["--via=both,direct"], "argument --via: invalid choice"),
        (["--targets=onnx"], "argument --targets: 'onnx' is not onnx=HOST:PORT"),
        (["--targets=onnx=h:1"], "--targets: describe the servers, for the report: --environment '"),
        (
            ["--targets=tfserving=h:1", "--environment=e"],
            "--targets: simple_nn@onnx cannot be reached; add onnx=HOST:PORT or gateway=HOST:PORT",
        ),
        (
            ["--targets=onnx=h:1", "--environment=e", "--via=gateway"],
            "--targets: simple_nn@onnx cannot be reached; add gateway=HOST:PORT",
        ),
        (["--paths=simple_nn@nothing"], "--paths: 'simple_nn@nothing' is not a path; known: simple_nn@onnx, or all"),
    ],
)
def test_a_bad_value_gets_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "deployments.toml").write_text("[models.simple_nn]\ndefault = 'onnx'\n[models.simple_nn.stacks.onnx]\n")
    with pytest.raises(SystemExit) as caught:
        main([f"--deployments={tmp_path / 'deployments.toml'}", *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_list_of_paths_gets_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--deployments={tmp_path / 'none.toml'}"]) == 1
    assert capsys.readouterr().err.startswith(f"servepath loadtest: {tmp_path / 'none.toml'} is missing")
