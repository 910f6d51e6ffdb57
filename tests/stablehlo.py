"""What a StableHLO file says, and the same file once more, by processes of their own: no test's imports JAX."""

import json
import os
import re
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from tests.limits import LONG_S

FILE = "model.stablehlo"
TEXTS = """
import json, sys
from pathlib import Path
from export.stablehlo import file

print(json.dumps([file.read(Path(name)).mlir_module() for name in sys.argv[1:]]))
"""
# A Hugging Face folder by the spec of what was written before.
AGAIN = """
import sys, warnings
from pathlib import Path
from export.importing import hugging_face, torch_to_stablehlo
from export.importing.hints import Hints
from export.importing.torch_source import PROGRAM_FILE
from servepath.artifacts.manifest import read_manifest

warnings.simplefilter("ignore")
source, written, made = map(Path, sys.argv[1:])
hugging_face.export(source, made / PROGRAM_FILE, Hints())
torch_to_stablehlo.convert(made, made, read_manifest(written).spec)
"""
# JAX writes one for each operation that it lowers by platform; none holds another.
CASE = re.compile(r'"stablehlo\.case"\([^)]*\) \(\{\n(.*?)\n *\}\) :', re.DOTALL)


def texts(*folders: Path) -> list[str]:
    """Return the program in the file of each folder as text."""
    done = subprocess.run(
        [sys.executable, "-c", TEXTS, *(str(folder / FILE) for folder in folders)],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def again(source: Path, written: Path, made: Path) -> Path:
    """Return `made`, where another process, of another hash seed, has written a folder as StableHLO."""
    words = [sys.executable, "-c", AGAIN, *map(str, (source, written, made))]
    subprocess.run(words, env=os.environ | {"PYTHONHASHSEED": "7"}, timeout=LONG_S, check=True)
    return made


def products(text: str) -> list[str]:
    """Return the products of a program: operands, dimensions, precision and types of each."""
    return re.findall(r"= (stablehlo\.dot_general .*?)(?: loc\(.*\))?$", text, re.MULTILINE)


def inexact(text: str) -> list[str]:
    """Return the lines of products that a TPU may round to bfloat16."""
    lines = (line for line in text.splitlines() if "dot_general" in line and 'loc("' not in line)
    return [line for line in lines if "precision = [HIGHEST, HIGHEST]" not in line]


def branches(text: str) -> list[list[list[str]]]:
    """Return the products in each branch of each place where a program asks for its platform, if there are any."""
    cases = [[products(branch) for branch in re.split(r"\n *\}, \{\n", case)] for case in CASE.findall(text)]
    return [case for case in cases if any(case)]


def wide(text: str) -> list[str]:
    """Return the operations on float64 in a program, with their types."""
    found = re.findall(r"= (stablehlo\.\w+) .*: (.*f64.*?)(?: loc\(.*\))?$", text, re.MULTILINE)
    return [" ".join(each) for each in found]


def end_unread(_: Path, calls: Connection) -> None:
    """End this process once it is asked, before it reads what."""
    calls.poll(None)
    os._exit(3)
