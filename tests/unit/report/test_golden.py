import json
import math
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from report.__main__ import main


def test_stored_rows_give_exactly_the_stored_summary(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads((stored.folder / "expected.json").read_text())
    assert main([str(stored.folder)]) == 0
    assert json.loads((stored.folder / "summary.json").read_text()) == expected
    assert "valid: every path returned correct responses" in capsys.readouterr().out


def test_the_stored_summary_is_what_plain_sorting_gives(stored: Any) -> None:
    expected = json.loads((stored.folder / "expected.json").read_text())
    assert [(row["stack"], row["via"]) for row in expected["paths"]] == [
        ("tfserving", "direct"),
        ("tfserving", "gateway"),
        ("onnx", "direct"),
        ("onnx", "gateway"),
    ]
    for row in expected["paths"]:
        files = stored.files(f"{row['model']}@{row['stack']}.{row['via']}")
        rows = [found for path in files for found in parquet.read_table(path).to_pylist()]
        for prefix, column in (("", "service_us"), ("response_", "response_us")):
            ordered_us = sorted(found[column] for found in rows if found["phase"] == "measure")
            assert row["requests"] == len(ordered_us) == 12 * 110 == len(rows) - row["warmup_requests"]
            for name, part in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
                assert row[prefix + name] == round(ordered_us[math.ceil(part * len(ordered_us)) - 1] / 1000, 4)
            assert row[prefix + "p999_ms"] is None


def test_p50_has_verdicts_and_p99_has_none_since_its_rounds_are_below_the_floor(stored: Any) -> None:
    verdicts = json.loads((stored.folder / "expected.json").read_text())["verdicts"]
    assert [(each["metric"], each["family"]) for each in verdicts] == [
        *[("p50", "path")] * 2,
        *[("p50", "gateway")] * 2,
        *[("p99", "path")] * 2,
        *[("p99", "gateway")] * 2,
    ]
    assert [each["verdict"] for each in verdicts] == ["b", "b", "a", "a", *[None] * 4]
    assert verdicts[0]["sentence"].startswith(
        "p50: simple_nn@onnx direct [onnxruntime 1.31.1 (CPUExecutionProvider)] is"
    )


def test_verdicts_are_on_response_times(stored: Any) -> None:
    def without_response_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row | {"response_us": 1.0} for row in rows]

    for path in {path.stem.partition("-")[2] for path in (stored.folder / "rows").iterdir()}:
        stored.change_rows(path, without_response_times)
    main([str(stored.folder)])
    summary = json.loads((stored.folder / "summary.json").read_text())
    assert summary["verdicts_on"] == "response time"
    assert {each["verdict"] for each in summary["verdicts"][:4]} == {"too close to call"}


def test_a_closed_loop_has_service_times_alone(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stored.close_loop()
    assert main([str(stored.folder)]) == 0
    summary = json.loads((stored.folder / "summary.json").read_text())
    assert summary["verdicts_on"] == "service time"
    assert {row["response_p50_ms"] for row in summary["paths"]} == {None}
    assert {row["lateness"] for row in summary["paths"]} == {None}
    assert "each user waits for its reply" in capsys.readouterr().out


def test_terminal_page_markdown_and_json_have_what_proofs_saw(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    proof = {"difference": 1.234e-07, "refused": "", "unbatched": "batches differ"}
    stored.change_facts(proofs={"simple_nn@onnx.gateway": proof})
    assert main([str(stored.folder)]) == 0
    line = "simple_nn@onnx: at most 1.2e-07; not batched: batches differ"
    assert line in capsys.readouterr().out
    for name in ("report.html", "summary.md"):
        assert line in (stored.folder / name).read_text().replace("\\", "")
    assert proof in [path.get("proof") for path in json.loads((stored.folder / "summary.json").read_text())["paths"]]


def test_what_cannot_be_written_is_shown_all_the_same(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("summary.json", "recommendation.json"):
        (stored.folder / name).mkdir()  # for root, too, who may write into a read-only folder
    for words, shown in (
        ([str(stored.folder)], "valid: every path returned correct responses"),
        (["recommend", str(stored.folder), "--rate=500", "--slo-p99-ms=20"], "For 500 req/s at p99 below 20 ms"),
    ):
        assert main(words) == 1
        said = capsys.readouterr()
        assert shown in said.out
        assert said.err.startswith("servepath report: ")


def test_without_a_run_there_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert (
        said
        == f"servepath report: {tmp_path}/run.json is missing: no load test was recorded there; run: make loadtest\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", b"{", "run.json is not JSON"),
        ("run.json", b"[]", "run.json: $: [] is not of type 'object'"),
        ("run.json", b'{"schema": 1}', "run.json is of schema 1 and this report reads 3; run: make loadtest"),
        ("run.json", b'{"schema": 3}', "run.json: $: 'run' is a required property; see run.schema.json"),
        ("rows/r00-simple_nn@onnx.direct.parquet", b"PAR1", "direct.parquet is not a table of requests"),
        ("rows/simple_nn@onnx.direct.parquet", b"PAR1", "is not named rROUND-MODEL@STACK.VIA.parquet"),
    ],
)
def test_a_damaged_file_is_named(
    stored: Any, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (stored.folder / name).write_bytes(content)
    assert main([str(stored.folder)]) == 1
    assert said in capsys.readouterr().err


def test_rows_without_a_column_are_named(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored.files("simple_nn@onnx.direct")[0]
    parquet.write_table(parquet.read_table(path).drop_columns(["response_us"]), path)
    assert main([str(stored.folder)]) == 1
    assert f"{path} has no column 'response_us'; run: make loadtest" in capsys.readouterr().err
