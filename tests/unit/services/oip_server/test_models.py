"""What callers' names mean at one server."""

import pytest

from servepath.protocols.errors import ModelNotFound
from services.oip_server.models import Models


def test_an_unknown_name_may_be_tried_again_at_once_for_another_replica_may_have_it() -> None:
    with pytest.raises(ModelNotFound) as unknown:
        Models({}, "onnx").named("simple_nn")
    assert unknown.value.retry_after_ms == 0
