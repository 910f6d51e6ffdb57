"""Asks a running gateway for two predictions: `python -m servepath.client.example [HOST:PORT [MODEL]]`."""

import sys

from servepath.client import Client, PredictError

with Client(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as client:
    try:
        model = sys.argv[2] if len(sys.argv) > 2 else client.list_paths()[0].model  # noqa: PLR2004 - the second word
        prediction = client.predict(model, [[1, 2], [2, 3]])
    except PredictError as error:
        sys.exit(f"{error.code.name}: {error}")
    print(prediction.output, "by", prediction.served.engine)  # noqa: T201 - it is what the example shows
