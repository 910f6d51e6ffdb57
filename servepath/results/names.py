"""What the files of a run, its measurements, and their paths are called, on disk and in JSON."""

import re

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
CAPACITY_FILE = "capacity.json"
COST_FILE = "scorecard.json"
RECOMMENDATION_FILE = "recommendation.json"
CROSSCHECK_FILE = "crosscheck.json"

# The hash of an artifact that its server, an external one, does not name.
UNKNOWN_ARTIFACT = "unknown"
# The environment of servers on the load generator's own machine, also of runs that name none.
LOCAL = "local"
# How a path is reached.
VIAS = ("direct", "gateway")
OPEN_POISSON, OPEN_CONSTANT, CLOSED = LOAD_MODELS = ("open loop, poisson", "open loop, constant", "closed loop")
# The no-op server (loadtest/no_op.py), which answers at once: its model and its stack. It is not a path.
NO_OP_NAME = "null"
NO_OP_PATH = f"{NO_OP_NAME}@{NO_OP_NAME}"
# Who loads the same path in turn, where instruments are compared. Ours is compared with LoadGen under the arrivals that
# LoadGen makes, with h2load under those that h2load makes.
POISSON, LOADGEN, EVEN, H2LOAD = INSTRUMENTS = ("poisson", "loadgen", "even", "h2load")
# Figures of a scorecard that the report reckons with, CPU by how a path is reached.
SERVER_CPU = {"direct": "server CPU, direct", "gateway": "server CPU, via gateway"}
GATEWAY_CPU = "gateway CPU"
LOADED_MEMORY, GATEWAY_LOADED_MEMORY = "loaded memory", "gateway loaded memory"
# Where expected answers come from: the model's reference, the file of payloads, or a measurement, whose name follows.
FROM_REFERENCE, FROM_FILE, ANSWERS_OF = "the reference", "the outputs in the file", "answers of "

# Why a run ended that went on until it knew. After the last two it is not valid, whatever further rounds would show.
KNOWN, TIME_UP, WRONG_ANSWERS, FAILED_REQUESTS = ("known", "time", "wrong answers", "failed requests")

# The name of a file of rows, without its ending: see rows_file().
ROWS_FILE = re.compile(r"r(?P<round>\d+)-(?P<model>.+)@(?P<stack>[^@]+)\.(?P<via>direct|gateway)(~(?P<side>.+))?")


def key_of(path: str, via: str, side: str = "") -> str:
    """Return MODEL@STACK.VIA or MODEL@STACK.VIA~SIDE, as files, verdicts and the fairness manifest have it."""
    return f"{path}.{via}" + (f"~{side}" if side else "")


def rows_file(number: int, key: str) -> str:
    """Return the name of the file with a key's rows, numbered from 0, without its ending; ROWS_FILE reads it."""
    return f"r{number:02d}-{key}"
