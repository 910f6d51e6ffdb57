import pytest

from servepath.protocols import oip_repository
from servepath.protocols.errors import Unsupported
from servepath_pb.servepath.oip.oip_pb2 import ModelRepositoryParameter, RepositoryModelUnloadRequest


def unload(**parameters: ModelRepositoryParameter) -> None:
    """Check an unload as it is read from the wire."""
    sent = RepositoryModelUnloadRequest(model_name="simple_nn", parameters=parameters).SerializeToString()
    request = RepositoryModelUnloadRequest.FromString(sent)
    oip_repository.check_call(request.repository_name, request.parameters)


def test_an_unload_as_tritons_client_sends_it_is_taken_and_one_of_other_models_too_is_refused() -> None:
    unload(unload_dependents=ModelRepositoryParameter(bool_param=False))
    for parameters in (
        {"unload_dependents": ModelRepositoryParameter(bool_param=True)},
        {"config": ModelRepositoryParameter(string_param="")},
    ):
        with pytest.raises(Unsupported, match="leave parameters out"):
            unload(**parameters)
