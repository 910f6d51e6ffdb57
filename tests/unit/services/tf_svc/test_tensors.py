import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc.refusal import Refusal
from services.tf_svc.servable import Array, Declared
from services.tf_svc.tensors import DATA_TYPE_OF, NUMPY, read, write

FIXED = [number for number, dtype in NUMPY.items() if not dtype.hasobject]


def declared(number: int, shape: tuple[int, ...] | None = None) -> Declared:
    return Declared("x", "x:0", number, shape)


@given(st.sampled_from(FIXED), st.data())
def test_what_is_written_typed_reads_back_bit_for_bit(number: int, data: st.DataObject) -> None:
    shape = data.draw(st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4))
    count = int(np.prod(shape)) * NUMPY[number].itemsize
    # Numbers by their bits, a bool's being 0 or 1; no signalling NaN, which a Python float would quieten.
    elements = st.integers(0, 1) if number == DATA_TYPE_OF[np.dtype("?")] else st.integers(0, 126)
    array = np.array(data.draw(st.lists(elements, min_size=count, max_size=count)), "u1").view(NUMPY[number])
    message = pb.TensorProto()
    write(array.reshape(shape), message)
    assert read(message, declared(number), 0).tobytes() == array.tobytes()


def test_strings_read_back_with_their_zero_bytes() -> None:
    array: Array = np.array([b"a\0", b""], object)
    message = pb.TensorProto()
    write(array, message)
    assert read(message, declared(7), 0).tolist() == [b"a\0", b""]


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_refusal(payload: bytes) -> None:
    message = pb.TensorProto()
    try:
        message.ParseFromString(payload)
    except Exception:  # noqa: BLE001 - not a message at all: not this function's to judge
        return
    for number in (1, message.dtype):
        try:
            read(message, declared(number, (-1, 2)), 0)
        except Refusal as refusal:
            assert refusal.code.name == "INVALID_ARGUMENT"  # noqa: PT017 - both ways out are fine


def test_content_is_not_copied() -> None:
    content = np.arange(6, dtype="<f4").tobytes()
    message = pb.TensorProto(dtype=1, tensor_content=content)
    for size in (3, 2):
        message.tensor_shape.dim.add(size=size)
    array = read(message, declared(1, (-1, 2)), 0)
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("number", "text"),
    [(10, "float but bool"), (7, "float but string"), (19, "float but half"), (3, "float but int32")],
)
def test_a_wrong_dtype_is_named_as_tensorflow_names_it(number: int, text: str) -> None:
    message = pb.TensorProto()
    write(np.zeros((1,), NUMPY[number]) if number != 7 else np.array([b""], object), message)
    with pytest.raises(Refusal, match=rf"Expects arg\[2\] to be {text} is provided"):
        read(message, declared(1), 2)
