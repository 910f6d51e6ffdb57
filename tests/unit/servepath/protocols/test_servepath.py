import pytest

from servepath.protocols import servepath
from servepath.protocols.errors import BadInput
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS
from servepath_pb.servepath.v1 import gateway_pb2 as pb


@pytest.mark.parametrize(
    "request_message",
    [
        pb.PredictRequest(inputs=[pb.Tensor()] * (MAX_TENSORS + 1)),
        pb.PredictRequest(outputs=["y"] * (MAX_TENSORS + 1)),
        pb.PredictRequest(inputs=[pb.Tensor(name="x", shape=[1] * (MAX_RANK + 1))]),
    ],
)
def test_what_could_keep_the_gateway_busy_is_refused_by_its_number(request_message: pb.PredictRequest) -> None:
    with pytest.raises(BadInput, match="more than"):
        servepath.decode_request(request_message.SerializeToString())


def test_a_million_empty_tensors_of_two_megabytes_are_refused_without_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servepath, "_input", None)
    with pytest.raises(BadInput, match=f"more than {MAX_TENSORS} inputs"):
        servepath.decode_request(b"\x1a\x00" * 10**6)


@pytest.mark.parametrize(
    ("version", "label", "said"),
    [
        (3, "canary", "a request has version or version_label, not both"),
        (0, "4", "version_label '4' is no label: a letter, then"),
        (0, "a b", "version_label 'a b' is no label: a letter, then"),
    ],
)
def test_a_wrong_version_label_says_why(version: int, label: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        servepath.decode_request(pb.PredictRequest(version=version, version_label=label).SerializeToString())
    assert caught.value.text.startswith(said)
    assert caught.value.reason == "BAD_INPUT.VERSION"
