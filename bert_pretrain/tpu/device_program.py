"""What `TPUStrategy` would send to each TPU: cut out of a traced function.

`strategy.run` marks the operations that are for the TPU with the name of
their cluster; their inputs come through `TPUReplicatedInput`, one value a
replica, and their outputs leave through `TPUReplicatedOutput`. Here the
cluster becomes a function of its own, which XLA lowers to HLO as the TPU's
runtime would: the program of one replica among others, with sums over them.

For a TPU of which only one replica's program is asked, its strategy needs as
many replicas as the sums are over.
"""

import dataclasses
import functools
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import values as distribute_values

_CLUSTER = "_tpu_replicate"
_INPUT, _OUTPUT = "TPUReplicatedInput", "TPUReplicatedOutput"
# Marked too, but of the runtime's alone.
_NOT_COMPUTED = ("TPUReplicateMetadata", "TPUCompilationResult")


@dataclasses.dataclass(frozen=True)
class Variable:
    """A parameter that holds a variable's value."""

    variable: tf.Variable  # one of each replica's


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter that comes with each call."""

    indexes: tuple[int, ...]  # among the call's tensors, by replica


@dataclasses.dataclass(frozen=True)
class Constant:
    """A parameter that is the same at each call, as a replica's number is."""

    values: tuple[np.ndarray, ...]  # by replica


@dataclasses.dataclass(frozen=True)
class DeviceProgram:
    """The program of one replica; its results are `outputs`, then the values
    of `variables` if they were asked for, then those that it updates."""

    hlo: bytes = dataclasses.field(repr=False)  # a serialized HloModuleProto
    num_replicas: int
    parameters: tuple[Variable | Argument | Constant, ...]
    num_outputs: int  # a replica's
    outputs: Any  # the structure of all replicas' outputs
    variables: tuple[tf.Variable, ...]


def of_run(
    strategy: tf.distribute.TPUStrategy,
    function: Callable,
    args: tuple = (),
    with_values: bool = False,
) -> DeviceProgram:
    """The program of `strategy.run(function, args)`.

    Args:
      args: the values that the replicas get, or their `tf.TypeSpec`s.
      with_values: whether it also gives the values that all variables have in
        the end: to carry on with them, but not what a TPU would do.
    """

    @tf.function(autograph=False)
    def call(*args):
        return strategy.run(function, args=args)

    traced = call.get_concrete_function(*args)
    graph = traced.graph
    cluster = _cut_out(graph.as_graph_def())
    places = {tensor.name: i for i, tensor in enumerate(graph.inputs)}
    captures = {inner.name: outer for outer, inner in graph.captures}
    variables = _variables_by_handle()
    sources = [
        _source(graph, name, places, captures, variables)
        for name in cluster.inputs
    ]
    hlo, order = _lower(graph, cluster, sources, with_values)
    held = [s for s in sources if isinstance(s, Variable)]
    return DeviceProgram(
        hlo=hlo,
        num_replicas=strategy.num_replicas_in_sync,
        parameters=tuple(sources[i] for i in order),
        num_outputs=len(cluster.outputs),
        outputs=traced.structured_outputs,
        variables=tuple(s.variable for s in held) if with_values else (),
    )


@dataclasses.dataclass(frozen=True)
class _Cluster:
    """The operations that are for the TPU."""

    definition: tf.compat.v1.GraphDef
    inputs: tuple[str, ...]  # names of `TPUReplicatedInput`s
    outputs: tuple[str, ...]  # tensors that leave it


def _cut_out(definition):
    """The cluster of a graph, in terms that XLA knows on any device."""
    nodes = {node.name: node for node in definition.node}
    inside = _inside(definition, nodes)
    names = {node.name for node in inside}
    part = tf.compat.v1.GraphDef(
        library=definition.library, versions=definition.versions
    )
    for function in part.library.function:
        for node in function.node_def:
            _translate(node)
    inputs = {}
    for node in inside:
        copy = part.node.add()
        copy.CopyFrom(node)
        if _CLUSTER in copy.attr:
            copy.attr.pop(_CLUSTER)
        copy.device = ""
        del copy.input[:]
        for name in node.input:
            base = name.lstrip("^").split(":")[0]
            if base in names:
                copy.input.append(name)
            elif not name.startswith("^"):
                if nodes[base].op != _INPUT:
                    raise ValueError(
                        f"{node.name} takes {name}, which is no input of the "
                        "cluster."
                    )
                copy.input.append(name)
                inputs[base] = None
        _translate(copy)
    outputs = [
        node.input[0] if ":" in node.input[0] else f"{node.input[0]}:0"
        for node in definition.node
        if node.op == _OUTPUT
    ]
    return _Cluster(part, tuple(inputs), tuple(outputs))


def _inside(definition, nodes):
    """What is marked as the cluster's, and the constants that it takes."""
    inside = {
        node.name: node
        for node in definition.node
        if _CLUSTER in node.attr and node.op not in _NOT_COMPUTED
    }
    # Some optimizers make theirs outside of it.
    for node in list(inside.values()):
        for name in node.input:
            base = name.split(":")[0]
            if base in nodes and nodes[base].op == "Const":
                inside[base] = nodes[base]
    return list(inside.values())


def _translate(node):
    """Names a sum over replicas as XLA's other compilers know it."""
    if node.op == "CrossReplicaSum":
        node.op = "XlaAllReduce"
        node.attr["reduce_op"].s = b"Add"
        node.attr["mode"].s = b"CrossReplica"


def _source(graph, name, places, captures, variables):  # noqa: PLR0913
    """Where an input of the cluster comes from."""
    tensors = [
        graph.get_tensor_by_name(i if ":" in i else f"{i}:0")
        for i in graph.get_operation_by_name(name).node_def.input
        if not i.startswith("^")
    ]
    if tensors[0].dtype == tf.resource:
        return Variable(variables[id(captures[tensors[0].name])])
    if all(tensor.name in places for tensor in tensors):
        return Argument(tuple(places[tensor.name] for tensor in tensors))
    return Constant(tuple(tf.get_static_value(t) for t in tensors))


def _variables_by_handle():
    """Every distributed variable, by the handles that a graph captures."""
    found = {}
    for variable in gc.get_objects():
        # By its type: to ask each of a million objects takes seconds.
        if _is_distributed(type(variable)):
            packed = variable._packed_var
            if packed is not None:
                found[id(packed._handle)] = variable
            found[id(variable.values[0].handle)] = variable
    return found


@functools.cache
def _is_distributed(kind):
    return issubclass(kind, distribute_values.DistributedVariable)


def _lower(graph, cluster, sources, with_values):
    """(Serialized HLO, the sources in the order of its parameters)."""
    given = [i for i, s in enumerate(sources) if not isinstance(s, Variable)]
    held = [i for i, s in enumerate(sources) if isinstance(s, Variable)]
    handles = {i: sources[i].variable.values[0].handle for i in held}

    def program(*values):
        default = tf.compat.v1.get_default_graph()
        inputs = {
            f"{cluster.inputs[i]}:0": default.capture(handles[i]) for i in held
        }
        inputs |= {
            f"{cluster.inputs[i]}:0": value
            for i, value in zip(given, values, strict=True)
        }
        outputs = tf.graph_util.import_graph_def(
            cluster.definition,
            input_map=inputs,
            return_elements=list(cluster.outputs),
            name="",
        )
        results = [tf.identity(output) for output in outputs]
        if with_values:
            # Written ones are read after that, as in any function.
            results += [
                tf.raw_ops.ReadVariableOp(
                    resource=inputs[f"{cluster.inputs[i]}:0"],
                    dtype=sources[i].variable.dtype,
                )
                for i in held
            ]
        return results or [tf.constant(0)]

    function = tf.function(program, jit_compile=True, autograph=False)
    specs = [_spec(graph, cluster.inputs[i]) for i in given]
    traced = function.get_concrete_function(*specs)
    hlo = function.experimental_get_compiler_ir(
        *[tf.zeros(spec.shape, spec.dtype) for spec in specs]
    )(stage="hlo_serialized")
    by_handle = {id(handle): i for i, handle in handles.items()}
    captured = [by_handle[id(outer)] for outer, _ in traced.graph.captures]
    return hlo, given + captured


def _spec(graph, name):
    tensor = graph.get_tensor_by_name(f"{name}:0")
    return tf.TensorSpec(tensor.shape, tensor.dtype)
