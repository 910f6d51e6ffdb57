"""Ask the gateway: `python -m client predict my_model@onnx '1 2'`, `client ask my_model --all '1 2'`, `client paths`.

Exit code 0 for an answer, 1 for a bad setting or a call that was refused or failed (of `ask --all`: also where a path
failed or its answer differs), 2 for bad arguments.
"""

import argparse
import json
import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from servepath.artifacts.text import LABEL
from servepath.cli.arguments import Parser, seconds
from servepath.client import Client, PredictError, Prediction, Verdict
from servepath.client.comparison import show, to_json
from servepath.protocols.deployments import ALL
from servepath.protocols.paths import PathInfo
from servepath.settings import SettingsError, address, read_variable, variables

# Of the artifact and its version: an external server may not name them.
UNKNOWN = "unknown"


def values(text: str) -> Any:
    """Read X: numbers by spaces or commas and rows by semicolons, or JSON (rows, or an object by input name)."""
    try:
        if text.lstrip().startswith(("[", "{")):
            return json.loads(text)
        rows = [[_number(word) for word in row.replace(",", " ").split()] for row in text.split(";")]
    except (ValueError, RecursionError):
        rows = []
    if not rows or not all(rows):
        raise argparse.ArgumentTypeError(f"{text!r} is not like '1 2', '1 2; 3 4' or [[1, 2], [3, 4]]")
    return rows


def _version(text: str) -> int | str:
    """Read a version's number, of at most as many digits as an int64 holds, or its label."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text  # noqa: PLR2004


def _number(word: str) -> float:
    try:
        return int(word)
    except ValueError:
        return float(word)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The command line of `python -m client`; model, x and version of predict and ask, every_path of ask."""

    command: str
    addr: str | None
    timeout: float
    json: bool
    model: str = ""
    x: Any = None
    text: Sequence[str] | None = None
    version: int | str = 0
    every_path: bool = False


# What argparse takes for an option unless it is one number.
NEGATIVE = re.compile(r"-[\d.]")
VALUED = {"--addr", "--text", "--timeout", "--version"}


def parse_args(argv: Sequence[str]) -> ClientOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    common = Parser(add_help=False)
    common.add_argument("--addr", type=address, help="the gateway's HOST:PORT (default: GATEWAY_ADDR, see .env)")
    common.add_argument("--timeout", type=seconds, default=5.0, help="seconds to wait for an answer (default: 5)")
    common.add_argument("--json", action="store_true", help="print one JSON object")
    parser = Parser(prog="servepath", description="Query the gateway.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="predict|ask|paths")
    predict = commands.add_parser("predict", parents=[common], help="one prediction")
    ask = commands.add_parser("ask", parents=[common], help="one prediction, or with --all one on every path")
    ask.add_argument(
        "--all", action="store_true", dest="every_path", help="every path of the model at once, compared with MODEL"
    )
    for command in (predict, ask):
        command.add_argument("model", help="MODEL (its default stack) or MODEL@STACK")
        command.add_argument(
            "--version", type=_version, default=0, help="a version's number or label (default: the gateway chooses)"
        )
        given = command.add_mutually_exclusive_group(required=True)
        given.add_argument("x", nargs="?", type=values, help="'1 2' is one row, '1 2; 3 4' two; or JSON")
        given.add_argument(
            "--text", action="append", help="a text, for a classifier of texts; may be given several times"
        )
    commands.add_parser("paths", parents=[common], help="the deployment paths and which of them answer now")
    # Moved to the end: Python 3.11 takes X for missing where an option stands between it and the model.
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    words[:end] = sorted(words[:end], key={"--all", "--json"}.__contains__)
    # What begins with a space is no option: rows such as -1,2 are none. An option's own word stays as it is.
    words[:end] = [
        f" {word}" if NEGATIVE.match(word) and before not in VALUED else word
        for before, word in zip(["", *words], words[:end], strict=False)
    ]
    return ClientOptions(**vars(parser.parse_args(words)))


def _readable(rows: Any) -> Any:
    """Return nested lists with texts in the place of bytes."""
    if isinstance(rows, list):
        return [_readable(row) for row in rows]
    return rows.decode(errors="backslashreplace") if isinstance(rows, bytes) else rows


def texts_text(texts: Sequence[str], prediction: Prediction) -> str:
    """Format the labels of texts for people, one per line, then who served them."""
    labels = [label.decode(errors="backslashreplace") for label in prediction.outputs[LABEL]]
    width = max(map(len, labels))
    lines = [f"{label:{width}}  {text}" for label, text in zip(labels, texts, strict=True)]
    return "\n".join([*lines, served_text(prediction)])


def prediction_text(prediction: Prediction) -> str:
    """Format an answer for people: the outputs, then who served them and in what time."""
    outputs = "\n".join(f"{name} = {_readable(rows)}" for name, rows in prediction.to_lists().items())
    return f"{outputs}\n{served_text(prediction)}"


def served_text(prediction: Prediction) -> str:
    """Return who served an answer and in what time, for people."""
    served = prediction.served
    return (
        f"served by {served.model}@{served.stack}: {served.engine} {served.engine_version}, "
        f"{served.precision and served.precision + ', '}"
        f"version {served.version or UNKNOWN}, sha256 {served.sha256[:12] or UNKNOWN}, "
        f"gateway {served.gateway_us} us, backend {served.backend_us} us"
    )


def paths_text(paths: Sequence[PathInfo]) -> str:
    """Format the paths for people, one per line; a star marks a model's default."""
    return "\n".join(_path_text(path) for path in paths)


def _path_text(path: PathInfo) -> str:
    state = "ready" if path.ready else "NOT READY"
    said = ", ".join(filter(None, (f"{path.engine} {path.engine_version}".strip(), path.precision, *_known(path))))
    return f"{path.name + '*' * path.is_default:28} {state:9}  {said}".rstrip()


def _known(path: PathInfo) -> Iterator[str]:
    """Yield what else there is to say of a path."""
    if 0 < path.weight < ALL or (path.weight == ALL and not path.is_default):
        yield f"{path.weight:g} % of {path.model}"
    if path.fallback:
        yield f"fallback {path.fallback} of {path.model}"
    if path.replicas > 1:
        yield f"{path.usable} of {path.replicas} replicas get calls"
    yield from _versions(path)
    if path.shadow:
        yield path.shadow.text
    if path.difference is not None:
        yield f"{path.difference:.2g} from the reference"
    if path.refused:
        yield f"refused: {path.refused}"
    if path.unbatched:
        yield f"not batched: {path.unbatched}"
    if not path.sha256:
        yield f"artifact {UNKNOWN}"


def _versions(path: PathInfo) -> Iterator[str]:
    if path.version_labels:
        yield ", ".join(label.text for label in path.version_labels)
    if len(path.versions) > 1:
        yield f"versions {', '.join(map(str, path.versions))}{', one at a time' * path.one_version}"


def as_json(value: Any) -> str:
    """Return nested values as JSON: bytes as text, NaN and the infinities as in the JSON of protocol buffers."""
    return json.dumps(_named(value), default=lambda data: data.decode(errors="backslashreplace"), allow_nan=False)


def _named(value: Any) -> Any:
    """Return nested values with NaN and the infinities by their names."""
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named(each) for each in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"


def _prediction_json(prediction: Prediction) -> str:
    return as_json({"outputs": prediction.to_lists(), "served": prediction.served._asdict()})


def _formatted(options: ClientOptions, prediction: Prediction) -> str:
    if options.json:
        return _prediction_json(prediction)
    if options.text and LABEL in prediction.outputs:
        return texts_text(options.text, prediction)
    return prediction_text(prediction)


def _paths_json(paths: Sequence[PathInfo]) -> str:
    return as_json({"paths": [{"name": path.name} | _plain(path) for path in paths]})


def _plain(path: PathInfo) -> dict[str, Any]:
    tensors = {"inputs": path.inputs, "outputs": path.outputs}
    shadow = {"shadow": path.shadow and path.shadow._asdict()}
    labels = {"version_labels": [label._asdict() for label in path.version_labels]}
    return (
        path._asdict()
        | shadow
        | labels
        | {
            key: [{"name": spec.name, "dtype": spec.dtype, "shape": spec.shape} for spec in specs]
            for key, specs in tensors.items()
        }
    )


def main(argv: Sequence[str]) -> int:
    """Make the call, print its answer, return the exit code."""
    options = parse_args(argv)
    try:
        addr = options.addr or read_variable(variables(), "GATEWAY_ADDR", address)
    except SettingsError as error:
        print(f"servepath {options.command}: {error}, or give --addr", file=sys.stderr)
        return 1
    with Client(addr) as client:
        try:
            return _asked(client, options)
        except PredictError as error:
            print(f"servepath {options.command}: {error}", file=sys.stderr)
            return 1


def _asked(client: Client, options: ClientOptions) -> int:
    """Make the call, print its answer, return the exit code. Raises PredictError."""
    inputs = options.text or options.x
    if options.every_path:
        comparison = client.compare(options.model, inputs, version=options.version, timeout_s=options.timeout)
        if options.json:
            print(as_json(to_json(options.model, comparison)))
        else:
            show(options.model, comparison)
        return int(comparison.verdict != Verdict.EQUAL)
    if options.command == "paths":
        paths = client.list_paths(timeout_s=options.timeout)
        print(_paths_json(paths) if options.json else paths_text(paths))
    else:
        found = client.predict(options.model, inputs, version=options.version, timeout_s=options.timeout)
        print(_formatted(options, found))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run main, and exit cleanly when the output cannot be written: a closed pipe is not an error."""
    try:
        code = main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Whatever is still buffered goes nowhere, or the interpreter would try again at its end and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        print(f"servepath: cannot write the answer: {error.strerror}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
