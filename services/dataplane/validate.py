"""The policy that no server sees a request that does not fit its model's signature."""

from collections.abc import Callable

from servepath.protocols.errors import BadInput
from servepath.protocols.signature import Signature
from servepath.protocols.types import Answer, Provenance
from services.dataplane.backend import Backend, Call


class Validate:
    """Checks every call against the signature; answers zero rows itself, OK and empty.

    (tensorflow_model_server with batching never answers a request of zero rows; seven of them stop it for good.)
    served: who would have answered, for those empty answers; called with the version asked for.
    """

    def __init__(self, inner: Backend, signature: Signature, served: Callable[[int], Provenance]) -> None:
        self._inner = inner
        self._signature = signature
        self._served = served

    def submit(self, call: Call) -> None:
        """Pass a valid call on with its rows set; end any other."""
        request = call.request
        try:
            call.rows = self._signature.check(request)
        except BadInput as error:
            call.end(error)
            return
        if call.rows:
            self._inner.submit(call)
        else:
            call.end(Answer(self._signature.empty_outputs(request), self._served(request.version)))

    def ready(self) -> bool:
        """Return whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()
