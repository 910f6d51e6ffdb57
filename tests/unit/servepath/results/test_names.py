import pytest

from servepath.results.names import ROWS_FILE, key_of, rows_file


@pytest.mark.parametrize("side", ["", "ref-1234567"])
def test_a_rows_files_name_is_read_back_as_it_was_written(side: str) -> None:
    found = ROWS_FILE.fullmatch(rows_file(7, key_of("a-b@onnx:fp16", "gateway", side)))

    assert found is not None
    assert [*found.groupdict().values()] == ["07", "a-b", "onnx:fp16", "gateway", side or None]
