"""One step of an import in a process of its own: `python -m export.importing.child STEP WORK SOURCE SPEC NAME`.

Exporters depend on what was exported before them in the process, runtimes may end the process that they run in, and
what a model asks for is bounded here: its memory is this process'.
"""

import os
import resource
import sys
import warnings
from pathlib import Path

from export.errors import ExportError
from export.importing.hints import read_hints
from export.importing.prove import first_line
from export.importing.steps import STEPS

# Of this machine's memory, for what one model may ask for.
SHARE = 0.75


def main() -> int:
    """Do the step; exit code 1 and one line on stderr where the model is refused."""
    step, work, source, spec, name = sys.argv[1:]
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * SHARE)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    warnings.simplefilter("ignore")
    try:
        STEPS[step](Path(work), Path(source), read_hints(Path(spec) if spec else None), name)
    except ExportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except MemoryError:
        sys.stderr.write(f"the model wants more memory than {memory // 2**30} GiB\n")
        return 1
    except Exception as error:  # noqa: BLE001 - frameworks raise kinds of their own
        sys.stderr.write(f"{step}: {type(error).__name__}: {first_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
