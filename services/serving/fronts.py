"""The fronts to choose from, by the name that `--front` and FRONT take.

Both keep the same limits, and the same tests run on both. Where pygrpc-native 0.5 answers otherwise than grpcio:

- A message above the limit is read whole, a gzip one inflated, before it is refused. grpcio refuses either unread.
- Who connects and says nothing is let go after two minutes. On grpcio it is `handshake_s`.
- Metadata of more than 128 KiB is answered with HTTP 431 or a closed connection, which clients report as UNKNOWN or
  UNAVAILABLE. grpcio says RESOURCE_EXHAUSTED.
- A hot call that ends without a message is INTERNAL. grpcio lets it wait for its deadline.
- A call that comes while the front stops is UNAVAILABLE. On grpcio it may be CANCELLED.
- A stop leaves replies FLUSH_S to be written; the rest of a large one may be lost (UNAVAILABLE). grpcio waits for it.

So the native front belongs where its callers are known: on loopback, in a private network, or behind a proxy that
bounds messages. TLS and a connection's age are grpcio's alone.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.serving.front import Front
from services.serving.grpcio_front import GrpcioFront
from services.serving.native_front import NativeFront

# name -> maker of a front from address, hot methods, Deliver, what adds control RPCs, and limits.
FRONTS: Mapping[str, Callable[..., Front]] = MappingProxyType({"native": NativeFront, "grpcio": GrpcioFront})
DEFAULT_FRONT = "native"
