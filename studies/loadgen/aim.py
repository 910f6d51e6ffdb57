"""Where a job's requests go, what they are, and whether what comes back is right; the same for all instruments."""

from loadtest.calls import Target, is_right
from loadtest.config import read_settings
from loadtest.payloads import Payload, load_reference, on_path, prepare
from loadtest.plan import NO_OP
from loadtest.targets import no_op_target, target_of
from servepath.http2.replies import Reply
from servepath.protocols.errors import ServeError
from studies.loadgen.instruments import Job


def aim(job: Job) -> tuple[Target, list[Payload]]:
    """Return the target and its requests, of one row each. Raises SettingsError or ArtifactError."""
    if job.measurement == NO_OP:
        target = no_op_target(job.no_op)
        payloads = prepare(load_reference(job.exports, job.model), "null", target.encode, rows=1, seed=job.seed)
        return target, [payload._replace(expected=()) for payload in payloads]
    target = target_of(job.measurement, read_settings(job.env_file), job.exports)
    path = job.measurement.path
    payloads = prepare(load_reference(job.exports, path.model), target.model, target.encode, rows=1, seed=job.seed)
    return target, on_path(payloads, job.exports, *path)


def look_at(target: Target, payload: Payload, reply: Reply) -> tuple[bool, bool]:
    """Return whether a reply can be read (ok), and whether it is incorrect."""
    if reply.code.value[0]:
        return False, False
    try:
        answer = target.decode(reply.payload, reply.trailing)
    except ServeError:
        return False, False
    return True, not is_right(target, answer, payload)
