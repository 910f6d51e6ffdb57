"""The Python client of the gateway, and `python -m client`. Imports no framework."""

from client.clients import AsyncClient, Client
from client.core import Prediction
from client.errors import PredictError

__all__ = ["AsyncClient", "Client", "PredictError", "Prediction"]
