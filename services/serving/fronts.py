"""The fronts to choose from, by the name that `--front` and FRONT take.

Both keep the same limits, and the same tests run on both. Where the native front answers otherwise than grpcio:

- Metadata of more than 128 KiB closes the connection, which clients report as UNAVAILABLE. grpcio says
  RESOURCE_EXHAUSTED.
- A hot call that ends without a message is INTERNAL. grpcio lets it wait for its deadline.
- A call that comes while the front stops is UNAVAILABLE. On grpcio it may be CANCELLED.
- A caller that cancels most of more than a thousand calls loses its connection. grpcio serves it.
- Connections beyond a limit are closed at once (FrontLimits.max_connections). grpcio takes them until it has no
  descriptors left.

TLS and a connection's age are grpcio's alone.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.serving.front import Front
from services.serving.grpcio_front import GrpcioFront
from services.serving.native_front import NativeFront

# name -> maker of a front from address, hot methods, Deliver, what adds control RPCs, and limits.
FRONTS: Mapping[str, Callable[..., Front]] = MappingProxyType({"native": NativeFront, "grpcio": GrpcioFront})
DEFAULT_FRONT = "native"
