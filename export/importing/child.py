"""One step of an import in a process of its own.

`python -m export.importing.child STEP WORK SOURCE SPEC NAME LIMIT_S TRUST`; SPEC and TRUST may be empty.

Exporters depend on what was exported before them in the process, runtimes may end the process that they run in, and
what a model asks for is bounded here: its memory and its processors' time are this process'.
"""

import contextlib
import ctypes
import math
import os
import resource
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from export.errors import ExportError
from export.importing.hints import read_hints
from export.importing.prove import first_line
from export.importing.steps import STEPS

# Of this machine's memory, for what one model may ask for.
SHARE = 0.75


def bound(limit_s: float) -> int:
    """Bound this process' memory, and its time to LIMIT_S seconds of each processor; return the bytes."""
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * SHARE)
    bounds = {resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: math.ceil(limit_s * len(os.sched_getaffinity(0)))}
    for what, amount in bounds.items():
        _, most = resource.getrlimit(what)
        bounds[what] = amount if most == resource.RLIM_INFINITY else min(amount, most)
        resource.setrlimit(what, (bounds[what], bounds[what]))
    return bounds[resource.RLIMIT_AS]


def main() -> int:
    """Do the step; exit code 1 and one line on stderr where the model is refused."""
    step, work, source, spec, name, limit_s, trust = sys.argv[1:]
    memory = bound(float(limit_s))
    # Before PyTorch comes: threads that spin would stand still beside anything else that computes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.simplefilter("ignore")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where what a model prints stays before why it is refused
            hints = replace(read_hints(Path(spec) if spec else None), trust_code=bool(trust))
            STEPS[step](Path(work), Path(source), hints, name)
    except ExportError as error:
        return _refuse(str(error))
    except SystemExit as error:
        return _refuse(f"the model's own code ends the process (exit code {error.code})")
    except MemoryError:
        return _refuse(f"the model wants more memory than {memory // 2**30} GiB")
    except Exception as error:  # noqa: BLE001 - frameworks raise kinds of their own
        return _refuse(f"{step}: {type(error).__name__}: {first_line(error)}")
    return 0


def _refuse(why: str) -> int:
    """Write why as the last line of this process, behind what libraries in C have printed; return the exit code."""
    ctypes.CDLL(None).fflush(None)
    sys.stderr.write(f"\n{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
