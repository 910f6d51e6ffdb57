"""What the gateway saw when it proved each path: asked once, before the load, for the record."""

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from grpc import StatusCode

from loadtest.calls import Target
from loadtest.connection import Client
from servepath.protocols import paths
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.paths import PathInfo
from servepath.protocols.servepath import LIST_PATHS

# How long a gateway may take to list its paths.
LISTED_S = 2.0


def ask(targets: Iterable[Target]) -> dict[str, dict[str, Any]]:
    """Return for each measurement through a gateway, by its name, what that path's proof saw.

    difference: the largest from the model's reference, None where none was seen or an answer has no number. refused,
    unbatched: why requests are refused or not batched, "" where they are not. Gateways that do not list are left out.
    """
    listed = cache(_listed)
    found = {}
    for measurement, address in ((target.measurement, target.address) for target in targets):
        path = listed(address).get(str(measurement.path)) if measurement.via == "gateway" else None
        if path is not None:
            seen = path.difference is not None and math.isfinite(path.difference)
            difference = path.difference if seen else None
            found[str(measurement)] = {
                "difference": difference,
                "refused": path.refused,
                "unbatched": path.unbatched,
            }
    return found


def _listed(address: str) -> dict[str, PathInfo]:
    client = Client(address, LIST_PATHS)
    try:
        reply = client.call(paths.REQUEST, (), LISTED_S).reply
    finally:
        client.close()
    try:
        return {path.name: path for path in paths.decode_answer(reply.payload)} if reply.code is StatusCode.OK else {}
    except BackendBadReply:
        return {}
