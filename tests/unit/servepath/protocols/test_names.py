import pytest

from servepath.protocols.errors import BadInput, ModelNotFound
from servepath.protocols.names import invalid_name_error
from servepath.protocols.status import text_of


@pytest.mark.parametrize("name", ["a", "A1", "simple_nn", "simple_nn@onnx", "a.b-c_d", "n" * 128, "SIMPLE_NN", "a."])
def test_a_name_that_could_be_one_is_unknown(name: str) -> None:
    assert isinstance(invalid_name_error(name), ModelNotFound)
    assert invalid_name_error(name).retry_after_ms is None
    assert invalid_name_error(name, retry_after_ms=0).retry_after_ms == 0


NOT_NAMES = (
    *("", " ", "\t", "\n", "n" * 129, "n" * 10**6, "a ", " a", "a\n"),
    *("../x", "..%2fx", "/etc/passwd", "a/b", "a\\b", ".", "-a", "_a"),
    *("a\0", "a\r\n", "\x1b[31m", "\u202ea", "s\u0456mple_nn", "e\u0301", "\u00e9"),
    *("$(id)", ";rm", "%s%n", "{0.__class__}", "{{7*7}}", "http://169.254.169.254/", "file:///", "gs://b", "s3://b"),
    *("a@", "@onnx", "a@b@c", "a@ b"),
)


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_name_that_cannot_be_one_is_bad_input_and_echoed_escaped(name: str) -> None:
    error = invalid_name_error(name)
    assert isinstance(error, BadInput)
    assert error.reason == "BAD_INPUT.MODEL_NAME"
    assert text_of(error).isascii()
    assert text_of(error).isprintable()
    assert len(text_of(error)) < 700
