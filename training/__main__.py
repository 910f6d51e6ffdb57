"""Train the models: `python -m training [MODEL|all] --epochs 10 --lr 0.01 --seed 0`.

All models are trained side by side, each framework in a process of its own.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.registry import SpecError, read_models
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import block_signals, run_main
from training import curve, stage
from training.run import Diverged, Run

MAX_EPOCHS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The command line of `python -m training`."""

    model: str
    epochs: int
    lr: float
    seed: int
    out: Path
    curve: bool


def parse_args(argv: Sequence[str]) -> TrainingOptions:
    """Read the command line; exit code 2 and one line when it is wrong. Raises SpecError."""
    parser = Parser(prog="servepath train", description="Train the models and write the inputs of export.")
    known = [*read_models(), "all"]
    parser.add_argument("model", nargs="?", default="all", choices=known, help="which model (default: all)")
    parser.add_argument("--epochs", type=whole(1, MAX_EPOCHS), default=10, help="full-batch steps (default: 10)")
    parser.add_argument("--lr", type=positive, default=0.01, help="learning rate (default: 0.01)")
    parser.add_argument(
        "--seed", type=whole(0), default=0, help="of the initial weights that both frameworks share (default: 0)"
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/models"), help="default: artifacts/models")
    parser.add_argument("--no-curve", dest="curve", action="store_false", help="do not write OUT/loss_curve.png")
    return parser.read(TrainingOptions, argv)


def train_all(options: TrainingOptions) -> int:
    """Train every model at the same time, show their lines one model after the other, return the worst exit code."""
    words = ["--epochs", str(options.epochs), "--lr", repr(options.lr), "--seed", str(options.seed)]
    words += ["--out", str(options.out)]
    children: list[subprocess.Popen[str]] = []
    try:
        for name in read_models():
            command = [sys.executable, "-m", "training", name, "--no-curve", *words]
            # Ctrl-C is for us alone, who then end them: in the middle of an import it would print a traceback.
            with block_signals(signal.SIGINT):
                # The first one's lines appear as they come; the others' wait in their pipes for their turn.
                children.append(subprocess.Popen(command, stdout=subprocess.PIPE if children else None, text=True))
        for child in children:
            for line in child.stdout or ():
                say(line.rstrip())
            child.wait()
        return max(exit_code(child) for child in children)
    finally:
        for child in children:
            child.kill()  # its files are written whole or not at all
        for child in children:
            child.wait()


def exit_code(child: "subprocess.Popen[str]") -> int:
    """Return a shell's exit code: 128 plus the number for a child that a signal ended."""
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def train_one(options: TrainingOptions) -> int:
    """Train one model; return the exit code."""
    try:
        stage.train(Run(options.model, options.epochs, options.lr, options.seed), options.out, say)
    except (Diverged, OSError) as error:
        print(f"servepath train: {options.model}: {error}", file=sys.stderr)
        return 1
    return 0


def say(line: str) -> None:
    """Print a line at once, even into a pipe."""
    print(line, flush=True)


def main(argv: Sequence[str]) -> int:
    """Train what was asked for and draw the losses; return the exit code."""
    try:
        options = parse_args(argv)
    except SpecError as error:
        print(f"servepath train: {error}", file=sys.stderr)
        return 1
    code = train_all(options) if options.model == "all" else train_one(options)
    if code == 0 and options.curve:
        say(f"wrote {curve.draw(options.out)}")
    return code


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
