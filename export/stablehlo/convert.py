"""Write a trained model as StableHLO: `python -m export.stablehlo.convert MODEL MODELS FOLDER`, a process of its own.

Keras has one backend in a process, here JAX, and torchax changes PyTorch for all. The last line says the facts as JSON,
or why there are none.
"""

import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from export import trained
from export.by_name import match
from export.errors import ExportError
from export.stablehlo import file
from export.trained import Trained
from servepath.artifacts.spec import TensorSpec


def from_torch(found: Trained) -> Any:
    """Return a PyTorch model as a function of JAX's. Raises ExportError."""
    import torch  # noqa: PLC0415 - each model's framework alone

    from export import torch_trained  # noqa: PLC0415
    from export.stablehlo import torch_program  # noqa: PLC0415

    model, arguments = torch_trained.read(found)
    form = torch_trained.open_batch(arguments, lambda: torch.export.Dim.AUTO)
    program = torch.export.export(model, (), kwargs=arguments, dynamic_shapes=form)
    inputs, outputs = torch_trained.names(program.call_spec, found.spec)
    return torch_program.function(
        program, _public("inputs", inputs, found.spec.inputs), _public("outputs", outputs, found.spec.outputs)
    )


def _public(what: str, called: Sequence[str], tensors: Sequence[TensorSpec]) -> list[str]:
    """Return the spec's name of each tensor that a program calls so, in the program's order. Raises ExportError."""
    own = match(what, [(name, name) for name in called], tensors)
    return sorted(own, key=lambda name: called.index(own[name]))


def from_keras(found: Trained) -> Any:
    """Return a Keras model as a function of JAX's. Raises ExportError."""
    from models import frameworks  # noqa: PLC0415

    frameworks.keras_on_jax()
    from export import keras_trained  # noqa: PLC0415 - after Keras has its backend

    model = keras_trained.read_by_name(found)
    weights, others = (
        [each.value for each in which] for which in (model.trainable_variables, model.non_trainable_variables)
    )

    def function(given: Mapping[str, Any]) -> Mapping[str, Any]:
        tensors = [given[tensor.name] for tensor in found.spec.inputs]
        results: Mapping[str, Any] = model.stateless_call(weights, others, tensors, training=False)[0]
        return results

    return function


FUNCTIONS: Mapping[str, Callable[[Trained], Any]] = MappingProxyType({"torch": from_torch, "keras": from_keras})


def convert(found: Trained, folder: Path) -> dict[str, str]:
    """Write FOLDER/model.stablehlo; return facts. Raises ExportError, and what the frameworks raise."""
    file.stay_on_cpu()
    return file.save(FUNCTIONS[found.model.framework](found), found.spec, folder)


def main() -> int:
    """Write the model; return the exit code."""
    name, models, folder = sys.argv[1:]
    warnings.simplefilter("ignore")  # of the frameworks about one another
    code = 0
    try:
        said = json.dumps(convert(trained.read(Path(models), name), Path(folder)))
    except ExportError as error:
        said, code = str(error), 1
    except Exception as error:  # noqa: BLE001 - frameworks raise kinds of their own
        said, code = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}", 1
    sys.stdout.write(f"{said}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
