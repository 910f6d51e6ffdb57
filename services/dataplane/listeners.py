"""The listeners to choose from, by the name that `--front` and FRONT take.

Both keep the same limits, and the same tests run on both. Where the native listener answers otherwise than grpcio:

- Metadata of more than 128 KiB closes the connection, which clients report as UNAVAILABLE. grpcio says
  RESOURCE_EXHAUSTED.
- A hot call that ends without a message is INTERNAL. grpcio lets it wait for its deadline.
- A call that comes while the listener stops is UNAVAILABLE. On grpcio it may be CANCELLED.
- A caller that cancels most of more than a thousand calls loses its connection. grpcio serves it.
- Connections beyond a limit are closed at once (ListenerLimits.max_connections). grpcio takes them until it has no
  descriptors left.

TLS and a connection's age are grpcio's alone.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.dataplane.grpcio_listener import GrpcioListener
from services.dataplane.listener import Listener
from services.dataplane.native_listener import NativeListener

# name -> maker of a listener from address, hot methods, Deliver, what adds control RPCs, and limits.
LISTENERS: Mapping[str, Callable[..., Listener]] = MappingProxyType(
    {"native": NativeListener, "grpcio": GrpcioListener}
)
DEFAULT_LISTENER = "native"
