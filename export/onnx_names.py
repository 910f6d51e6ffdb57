"""Names inside an ONNX model: rename tensors in every graph, wherever they are mentioned.

An ONNX model is a tree of graphs: the bodies of If, Loop and Scan are attributes of nodes and may use tensors of the
graphs round them (https://github.com/onnx/onnx/blob/main/docs/IR.md#names-within-a-graph). Names of one tree share one
scope here, so a renaming that never gives two tensors one name cannot change what the model computes.
"""

from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import helper


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from graphs(inner)


def rename(graph: onnx.GraphProto, wanted: Mapping[str, str]) -> None:
    """Rename tensors, by old name; another tensor that has a wanted name already gets a new one of its own."""
    here, targets = {name for each in graphs(graph) for name in _names(each)}, set(wanted.values())
    taken, new = here | targets, dict(wanted)
    for name in sorted((targets & here) - wanted.keys()):
        new[name] = free_name(name, taken)
        taken.add(new[name])
    for each in graphs(graph):
        _rename_one(each, new)


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return the name with the lowest number behind it that is not taken."""
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def own_outputs(graph: onnx.GraphProto) -> None:
    """Make each output of the graph a tensor of its own: neither an input, nor a constant, nor another output.

    Such a tensor has one name and would need two. An Identity makes a second one of it.
    """
    taken = {name for each in graphs(graph) for name in _names(each)}
    shared = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for output in graph.output:
        if output.name in shared:
            name = free_name(output.name, taken)
            graph.node.append(helper.make_node("Identity", [output.name], [name]))
            output.name = name
            taken.add(name)
        shared.add(output.name)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        yield from node.output
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name


def _rename_one(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new.get(sparse.values.name, sparse.values.name)
    for noted in graph.quantization_annotation:
        noted.tensor_name = new.get(noted.tensor_name, noted.tensor_name)
        for entry in noted.quant_parameter_tensor_names:  # its values are names of initializers
            entry.value = new.get(entry.value, entry.value)
