import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servepath.protocols import oip
from servepath.protocols.beginnings import MAX_BEGINNING, MAX_KNOWN, MAX_LENGTHS, MAX_SEEN, Beginnings
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import ModelInferRequest


def encoded(model: str, data: bytes, request_id: str = "") -> bytes:
    request = Request(model, 0, (Tensor("x", "UINT8", (len(data),), data),), ("y",), request_id)
    return oip.encode_request(request, model, 0)


class Counted:
    """A reader of ModelInferRequests that counts what it parses."""

    def __init__(self) -> None:
        self.parsed = 0
        self.proven_bytes = 0
        self.read = Beginnings(self._parse, self._contents, self._head, self._is_message).read

    def _parse(self, payload: bytes) -> Request:
        self.parsed += 1
        return oip.decode_request(payload)

    def _contents(self, request: Request) -> tuple[bytes, Callable[[bytes], Request]] | None:
        if len(request.inputs) != 1 or request.request_id:
            return None
        (tensor,) = request.inputs
        return tensor.data, lambda data: request._replace(inputs=(tensor._replace(data=data),))

    def _head(self, size: int) -> bytes:
        head = encoded("m", bytes(size))
        return head[head.rindex(b"\x3a", 0, len(head) - size) : len(head) - size]

    def _is_message(self, payload: bytes) -> bool:
        self.proven_bytes += len(payload)
        try:
            ModelInferRequest.FromString(payload)
        except Exception:  # noqa: BLE001 - protobuf's own
            return False
        return True


def test_a_beginning_is_parsed_twice_and_known_from_then_on() -> None:
    reader = Counted()
    for number in range(10):
        data = struct.pack("<Q", number)
        assert reader.read(encoded("m", data)) == oip.decode_request(encoded("m", data))
    assert reader.parsed == 2


def test_callers_whose_messages_have_one_size_do_not_displace_one_another() -> None:
    reader = Counted()
    for number in range(10):
        for model in ("alpha", "gamma", "delta"):
            assert reader.read(encoded(model, bytes([number] * 8))).model == model
    assert reader.parsed == 2 * 3


def test_what_follows_the_contents_of_a_known_beginning_is_no_part_of_them() -> None:
    reader = Counted()
    short, long = encoded("m", bytes(4)), encoded("n", bytes(8))
    behind = ModelInferRequest(id="me").SerializeToString()
    # A beginning of the same length is known of messages of that size.
    assert (len(short) + len(behind), len(short) - 4) == (len(long), len(long) - 8)
    for _ in range(2):
        reader.read(short)
        reader.read(long)
    assert reader.read(short + behind) == oip.decode_request(short)._replace(request_id="me")


def test_beginnings_of_several_lengths_in_messages_of_one_size_are_told_apart() -> None:
    reader = Counted()
    for number in range(10):
        for model, size in (("m", 12), ("mm", 11), ("mmm", 10)):
            read = reader.read(encoded(model, bytes([number] * size)))
            assert (read.model, read.inputs[0].data) == (model, bytes([number] * size))
    assert reader.parsed == 2 * 3


@pytest.mark.parametrize("size", [8, 2**16, 2**20])
def test_the_work_for_a_new_beginning_does_not_grow_with_the_contents(size: int) -> None:
    reader = Counted()
    data = bytes(size)
    for number in range(20):
        for _ in range(2):
            reader.read(encoded(f"m{number:03}", data))
    assert reader.parsed == 40
    assert reader.proven_bytes < 20 * 64


def test_a_beginning_that_comes_once_is_not_proven() -> None:
    reader = Counted()
    for number in range(100):
        reader.read(encoded(f"m{number:03}", bytes(8)))
    assert reader.proven_bytes == 0


def test_any_number_of_beginnings_is_read_right() -> None:
    reader = Counted()
    names = [f"m{number:05}" for number in range(MAX_KNOWN + 10)]
    for _ in range(3):
        for name in names:
            assert reader.read(encoded(name, bytes(8))).model == name
    for number in range(MAX_SEEN + 10):
        assert reader.read(encoded(f"s{number:05}", bytes(8))).model == f"s{number:05}"
    lengths = [("m" * length, bytes(50 - length)) for length in range(1, MAX_LENGTHS + 4)]
    for _ in range(4):
        for name, data in lengths:
            assert reader.read(encoded(name, data)).inputs[0].data == data


@pytest.mark.parametrize(
    "payload",
    [
        encoded("m", bytes(8), "an id"),
        encoded("m" * MAX_BEGINNING, bytes(8)),
        # More follows what looks like the contents.
        encoded("m", bytes(8)) + ModelInferRequest(model_name="n").SerializeToString(),
        # What looks like the contents and their head stands within a string.
        ModelInferRequest(raw_input_contents=[b"abcd"]).SerializeToString()
        + b"\x2a\x06\x0a\x01x\x12\x01U"
        + b"\x0a\x06"
        + b"\x3a\x04abcd",
    ],
    ids=["id", "long", "more follows", "within a string"],
)
def test_what_is_not_a_beginning_and_contents_is_parsed_each_time(payload: bytes) -> None:
    reader = Counted()
    for _ in range(4):
        assert reader.read(payload) == oip.decode_request(payload)
    assert reader.parsed == 4


@given(st.data())
def test_whatever_has_been_read_before_a_message_is_read_as_protobuf_reads_it(data: st.DataObject) -> None:
    reader = Counted()
    names, contents = st.sampled_from(["a", "b", "cc"]), st.binary(min_size=1, max_size=4)
    for _ in range(data.draw(st.integers(1, 30))):
        name, content = data.draw(names), data.draw(contents)
        read = reader.read(encoded(name, content))
        assert (read.model, read.inputs, read.outputs) == (
            name,
            (Tensor("x", "UINT8", (len(content),), content),),
            ("y",),
        )
