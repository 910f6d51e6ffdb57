"""What the code in a document names and what is not there: commands, options, variables, extras and paths.

Code is a block without a language, line by line, and what stands in backticks, even where it is wrapped. A command is
held to its own sources; what stands without its command, such as `--device cuda` or `GOAL=rate`, to all of them.

Not checked: what other programs take, values, words behind the first, and comments.
"""

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby, takewhile
from pathlib import Path

from dotenv import dotenv_values

from servepath.__main__ import COMMANDS
from tests.contract.registries import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = frozenset(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
MAKE_VARIABLES = frozenset(re.findall(r"\$\(([A-Z][A-Z0-9_]*)\)", MAKEFILE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
EXTRAS = PROJECT["project"]["optional-dependencies"].keys()
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
OURS = frozenset({*PACKAGES, "client", "tests"})
# Of others: programs, options that stand without them, and variables that they read (F is a document's own).
FOREIGN = frozenset({"docker", "h2load", "kubectl", "pip", "RUN"})
PIPS = frozenset({"--dry-run", "--no-deps", "--only-binary", "--require-hashes"})
FOREIGN_OPTIONS = frozenset({"--enable-feature", "--help", "--load-restrictor", "--rps"}) | PIPS
FOREIGN_VARIABLES = re.compile(r"(OMP|OTEL|PIP)_\w+|MLSERVER_ADDR|F")
# What stands for a path, is made by running, or is none: kubectl's KIND/NAME, a method of gRPC.
MADE = r"artifacts|results|site|\.run|\.venv|old"
NO_PATH = re.compile(rf"(?<![A-Z])(?!README)[A-Z]{{3,}}|\*|^/|^({MADE}|(cron)?job|deployment|service)\b|\.[A-Z]\w+/")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--[a-z][a-z0-9-]*(=.*)?", re.DOTALL)
VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
WORD = re.compile(r"[a-z][a-z-]*")
PATH = re.compile(r"[\w.@-]*/[\w./@-]*")


def mistakes(text: str) -> Iterator[str]:
    """Yield what a document's code names and what is not there."""
    for words in re.findall(r"(?:\.|servepath)\[([a-z0-9_,-]+)\]", text):
        yield from (f"there is no extra {word}" for word in words.split(",") if word not in EXTRAS)
    for name, version in re.findall(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", text):
        if PINS.get(name) != version:
            yield f"constraints.txt has no {name}=={version}"
    for command in commands(text):
        yield from path_mistakes(command)
        yield from command_mistakes(command)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a document's code, as a shell reads them."""
    blocks = [block.replace("\\\n", " ") for language, block in BLOCK.findall(text) if not language]
    for code in [*"".join(blocks).splitlines(), *re.findall(r"`([^`]+)`", BLOCK.sub("", text))]:
        lexer = shlex.shlex(code.replace("\\|", "|"), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a single quotation mark
            words = code.split()
        parts = groupby(words, lambda word: bool(re.fullmatch(r"[&|;()<>]+", word)))
        yield from (list(part) for between, part in parts if not between)


def path_mistakes(command: Sequence[str]) -> Iterator[str]:
    """Yield the paths that lead nowhere, neither from the root nor from proto/, the root of imports there."""
    for path in filter(PATH.fullmatch, (word.rpartition("=")[2] for word in command)):
        if not NO_PATH.search(path) and not any((ROOT / top / path).exists() for top in ("", "proto")):
            yield f"there is no {path}"


def command_mistakes(command: Sequence[str]) -> Iterator[str]:
    """Yield what a command, or a part of one, takes and what is not there."""
    before = list(takewhile(VARIABLE.fullmatch, command))
    program, *words = command[len(before) :] or [""]
    if program and Path(program).name != "make":
        names = (word.partition("=")[0] for word in before)
        yield from (f"nothing here reads {name}" for name in names if not is_read(name))
    match [Path(program).name, *words]:
        case ["make", *_]:
            yield from make_mistakes(words, before)
        case ["servepath", name, *more] if name in COMMANDS:
            yield from module_mistakes(f"servepath {name}", COMMANDS[name][0], [*COMMANDS[name][1:], *more])
        case ["servepath", name, *_] if WORD.fullmatch(name):
            yield f"servepath has no command {name}"
        case ["python" | "python3", "-m", module, *more]:
            yield from module_mistakes(f"python -m {module}", module, more)
        case ["client", *_]:
            yield from module_mistakes(program, program, words)
        case [name, *_] if name not in FOREIGN:
            yield from loose_mistakes([program, *words] if program else before)


def make_mistakes(words: Sequence[str], before: Sequence[str]) -> Iterator[str]:
    """Yield the targets that are none, and the variables that they do not take; those before make may be others'."""
    targets = [word for word in words if re.fullmatch(r"[a-z0-9-]+", word)]
    yield from (f"make has no target {target}" for target in targets if target not in TARGETS)
    taken = {name for target in targets for name in variables(target)}
    for found in filter(None, map(VARIABLE.fullmatch, [*before, *words])):
        if found[1] not in taken and not (found[0] in before and is_read(found[1])):
            yield f"make {' '.join(targets)} takes no {found[1]}"


def module_mistakes(command: str, module: str, words: Sequence[str]) -> Iterator[str]:
    """Yield that a module cannot be run, or its first word and the options that it does not know; not of others'."""
    top = module.partition(".")[0]
    if not sources(module) and (top in OURS or importlib.util.find_spec(top) is None):
        yield f"there is no module {module}"
    elif sources(module):
        given = [word.partition("=")[0] for word in words if OPTION.fullmatch(word)]
        given += filter(WORD.fullmatch, words[:1])
        yield from (f"{command} has no {word}" for word in given if word not in known_words(module) | {"--help"})


def loose_mistakes(words: Sequence[str]) -> Iterator[str]:
    """Yield the options and variables that nothing here takes."""
    for word in words:
        name = word.partition("=")[0]
        if OPTION.fullmatch(word) and name not in every_option() | FOREIGN_OPTIONS:
            yield f"nothing here has {name}"
        if VARIABLE.fullmatch(word) and name not in MAKE_VARIABLES and not is_read(name):
            yield f"nothing here takes {name}"


@cache
def variables(target: str) -> frozenset[str]:
    """Return the variables that a target's recipe, its definitions and what it is made of use."""
    rule = re.search(rf"^{re.escape(target)}:(?!=)([^#\n]*).*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    if rule is None:
        return frozenset()
    found, left = set(), re.findall(r"\b[A-Z][A-Z0-9_]*\b", rule[1] + rule[2])
    while left:
        found.add(name := left.pop())
        definition = re.search(rf"^{name} *:?=(.*)", MAKEFILE, re.MULTILINE)
        left += set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", definition[1] if definition else "")) - found
    return frozenset(found).union(*(variables(other) for other in rule[1].split()))


@cache
def sources(module: str) -> Sequence[Path]:
    """Return the files of a module of ours that can be run, none where there is none."""
    path = ROOT.joinpath(*module.split("."))
    if (file := path.with_suffix(".py")).is_file():
        return [file]
    return sorted(path.rglob("*.py")) if (path / "__main__.py").is_file() else []


@cache
def known_words(module: str) -> frozenset[str]:
    """Return the options that a module's files and what they import from add, and the words that these have."""
    files = {*sources(module), *(path for file in sources(module) for path in imported(file))}
    words = (re.findall(r'"([a-z][a-z-]*)"', file.read_text()) for file in files)
    return frozenset().union(*map(options, files), *words)


def imported(file: Path) -> Iterator[Path]:
    """Yield the files of ours that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            paths = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names)
            yield from filter(Path.is_file, paths)


@cache
def options(file: Path) -> frozenset[str]:
    """Return the options that a file adds, by argparse or as a setting (servepath/settings.py)."""
    text = file.read_text()
    settings = re.findall(r'\bsetting\(\s*"([a-z0-9_]+)"', text)
    added = re.findall(r'\(\s*(?:"-[a-z]", )?"(--[a-z0-9-]+)"', text)
    return frozenset([*added, *(f"--{name.replace('_', '-')}" for name in settings)])


@cache
def every_option() -> frozenset[str]:
    """Return the options of all that is ours."""
    return frozenset().union(*(options(path) for name in PACKAGES for path in (ROOT / name).rglob("*.py")))


def is_read(name: str) -> bool:
    """Return whether our sources name an environment variable, .env does, or other programs read it."""
    return name in every_variable() or FOREIGN_VARIABLES.fullmatch(name) is not None


@cache
def every_variable() -> frozenset[str]:
    """Return the variables of .env, and those that the sources of all that is ours name."""
    files = (path.read_text() for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return frozenset(dotenv_values(ROOT / ".env")).union(*(re.findall(r'"([A-Z][A-Z0-9_]+)"', text) for text in files))
