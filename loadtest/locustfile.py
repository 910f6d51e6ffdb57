"""Drive by hand: `locust -f loadtest/locustfile.py` opens Locust's page, where paths, users and time can be chosen.

One user class for each path and way, such as `my_model@onnx.direct`; names on the command line choose some of them
(`locust -f loadtest/locustfile.py my_model@onnx.direct`). A user is an open loop: a Poisson stream of its own. With
`--closed-loop` it is a caller that waits for its replies. `--processes`, `--master` and `--worker` work as ever. For
results worth keeping run `python -m loadtest`.
"""

from pathlib import Path

import locust.stats
from locust import events
from locust.argument_parser import LocustArgumentParser

from loadtest import plan
from loadtest.calls import Clock
from loadtest.config import read_settings
from loadtest.payloads import load_reference, on_path, prepare
from loadtest.targets import target_of
from loadtest.users import PathUser, user_class
from servepath.results.names import VIAS

USER_REQUESTS_PER_S = 50
USERS_IN_STEP = 5
EXPORTS = Path("artifacts/exports")


def three_digits(response_time_ms: float) -> float:
    """Return a response time in ms to three digits: Locust's own buckets are whole ms, and ours would all be 0 or 1."""
    return float(f"{response_time_ms:.3g}")


def user_classes() -> dict[str, type[PathUser]]:
    """Return one user class for each path and way, by name."""
    listed = plan.read_deployments(Path("deployments.toml"))
    settings, clock = read_settings(Path(".env"), deployments=listed), Clock()
    paths = [plan.ServingPath(*path) for path in listed.paths]
    references = {path.model: load_reference(EXPORTS, path.model) for path in paths}
    classes = {}
    for measurement in plan.measurements_of(paths, VIAS):
        if measurement != plan.NO_OP:
            target = target_of(measurement, settings, EXPORTS)
            payloads = prepare(references[measurement.path.model], target.model, target.encode, rows=1, seed=0)
            payloads = on_path(payloads, EXPORTS, *measurement.path)
            interval_s = 1 / USER_REQUESTS_PER_S
            classes[str(measurement)] = user_class(target, payloads, clock, interval_s=interval_s, users=USERS_IN_STEP)
    return classes


def add_options(parser: LocustArgumentParser) -> None:
    """Add ours to Locust's."""
    parser.add_argument("--closed-loop", action="store_true", help="closed loop: users wait for their replies")


events.init_command_line_parser.add_listener(add_options)
locust.stats.bucket_response_time = three_digits
globals().update(user_classes())
