"""litert_svc over real gRPC, on files that are written in milliseconds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from servepath.artifacts.spec import Spec, TensorSpec
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.litert_svc.config import SERVICE
from services.litert_svc.litert import load
from services.oip_server.config import Settings
from services.oip_server.server import create_server
from tests.limits import LONG_S
from tests.loop_thread import LoopThread
from tests.manifests import SPEC
from tests.oip_client import Client, ask, y_of
from tests.tiny_tflite import Op, T, graph, linear, make_export

OPEN = ("batch", "words", 3)
ADDS = Spec(
    tuple(TensorSpec(name, "FP32", OPEN) for name in ("a", "b")),
    tuple(TensorSpec(name, "FP32", OPEN) for name in ("doubled", "all")),
    row_independent=True,
    tolerance=SPEC.tolerance,
)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def adds() -> bytes:
    """Return the file of doubled = a + a, all = a + b, whose own order is another one."""
    tensors = [T(name, (-1, -1, 3)) for name in ("t0", "t1", "t2", "t3")]
    operators = [Op("ADD", (0, 0), (2,)), Op("ADD", (0, 1), (3,))]
    return graph(tensors, operators, (1, 0), (3, 2), ({"b": 1, "a": 0}, {"all": 3, "doubled": 2}))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, front: str) -> Iterator[Client]:
    exports = tmp_path_factory.mktemp("exports")
    make_export(exports, "simple_nn", content=linear(1))
    names = {"x": "graph_x", "y": "graph_y"}
    make_export(exports, "plain", content=linear(7, signature=False), names=names)
    make_export(exports, "adds", content=adds(), spec=ADDS)
    loop = LoopThread()
    server = loop.run(create_server(SERVICE, Settings(exports, 0, 0, front=front), load))
    client = Client(server.port)
    yield client
    client.channel.close()
    loop.run(server.close())
    loop.close()


def floats(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, "FP32", values.shape, values.astype("<f4").tobytes())


def sums(a: np.ndarray, b: np.ndarray) -> Request:
    return Request("adds", 0, (floats("a", a), floats("b", b)))


def are_sums(answer: Answer, a: np.ndarray, b: np.ndarray) -> bool:
    return answer.outputs == (floats("doubled", 2 * a), floats("all", a + b))


def test_it_answers_under_both_names_and_says_who_did(client: Client) -> None:
    for name in ("simple_nn", "simple_nn@litert"):
        answer = client.infer(ask(1, 2, model=name))
        assert (y_of(answer), answer.served.stack, answer.served.engine) == (6, "litert", "litert")


def test_a_file_without_signatures_answers_under_the_names_of_its_manifest(client: Client) -> None:
    assert y_of(client.infer(ask(1, 2, model="plain"))) == 12


def test_metadata_declare_what_is_served(client: Client) -> None:
    found = client.control("ModelMetadata", pb.ModelMetadataRequest(name="adds"), pb.ModelMetadataResponse)
    assert (found.platform, found.properties["engine"]) == ("tflite", "litert")
    assert [(tensor.name, list(tensor.shape)) for tensor in found.outputs] == [
        ("doubled", [-1, -1, 3]),
        ("all", [-1, -1, 3]),
    ]
    server = client.control("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert server.name == "servepath litert_svc"


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (64, 2, 3), (0, 2, 3), (2, 0, 3)])
def test_open_axes_and_batches_of_any_size_are_answered(client: Client, shape: tuple[int, ...]) -> None:
    a, b = np.arange(np.prod(shape)).reshape(shape), np.ones(shape)
    assert are_sums(client.infer(sums(a, b)), a, b)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "FP64", "data": bytes(16)}, "BAD_INPUT.DTYPE"),
        ({"shape": (1, 3), "data": bytes(12)}, "BAD_INPUT.SHAPE"),
        ({"shape": (2,)}, "BAD_INPUT.SHAPE"),
        ({"name": "graph_x"}, "BAD_INPUT.INPUTS"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_reaches_litert(
    client: Client, changes: dict[str, object], reason: str
) -> None:
    x = Tensor("x", "FP32", (1, 2), bytes(8))._replace(**changes)
    assert client.refused(Request("plain", 0, (x,))) == (INVALID, reason)


def test_concurrent_calls_of_different_shapes_get_their_own_answers(client: Client) -> None:
    def wrong(caller: int) -> int:
        random, found = np.random.default_rng(caller), 0
        for _ in range(100):
            shape = (int(random.integers(1, 9)), int(random.integers(1, 4)), 3)
            a, b = (random.integers(0, 1000, shape) for _ in range(2))
            found += not are_sums(client.infer(sums(a, b)), a, b)
        return found

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(wrong, range(16), timeout=LONG_S)) == [0] * 16
