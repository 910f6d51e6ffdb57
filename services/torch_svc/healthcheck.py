"""torch_svc's health check: `python -m services.torch_svc.healthcheck HOST:PORT --run-dir DIR --token-file FILE`.

Every model must answer a real Predictions call: TorchServe's own health answers are true before a model is loaded and
while its worker crashes. The calls are in DIR/health, written when the models were ready. Exit code 0: all answer; 1:
one does not, with the reason in one line. Standard library alone, for the reason given in services/healthcheck.py.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.healthcheck import Unhealthy, call

# As long as the readiness probe gives a model (services/torch_svc/probe.py), below the containers' own limits of 20 s.
PREDICTION_S = 15.0
# servepath/protocols/torchserve.py has the same, and imports protobuf; a test holds the two together.
METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


def check(address: str, requests: Path, token_file: Path) -> None:
    """Probe every model. Raises Unhealthy and OSError."""
    # Without tokens there is no file; with tokens and without a file the calls are refused.
    key = token_file.read_text(encoding="ascii").strip() if token_file.exists() else ""
    metadata = {"authorization": f"Bearer {key}"} if key else {}

    def ask(request: Path) -> None:
        # A handler that cannot compute says so in its answer, without tensors; see servepath/protocols/torchserve.py.
        reply = call(address, METHOD, request.read_bytes(), metadata, PREDICTION_S)
        if b'"error"' in reply and b'"data_offsets"' not in reply:  # an output may be called so
            raise Unhealthy(f"{request.name} returned an error")

    found = sorted(requests.iterdir())
    if found:
        with ThreadPoolExecutor(len(found)) as at_once:  # so that slow models do not add up
            list(at_once.map(ask, found))


def main(argv: Sequence[str]) -> int:
    """Check the server and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.torch_svc.healthcheck")
    parser.add_argument("address", help="HOST:PORT of gRPC inference")
    parser.add_argument("--run-dir", type=Path, default=Path(".run/torch_svc"), help="torch_svc's (%(default)s)")
    parser.add_argument("--token-file", type=Path, default=Path(".run/torch_svc/token"), help="(%(default)s)")
    args = parser.parse_args(argv)
    try:
        check(args.address, args.run_dir / "health", args.token_file)
    except (Unhealthy, OSError) as error:
        print(f"{args.address} is not healthy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
