"""The program that `TPUStrategy` sends to each TPU, cut out of a graph.

`strategy.run` marks the operations for the TPU with the name of their cluster.
The inputs of the cluster come from `TPUReplicatedInput`, one value per replica;
its outputs go to `TPUReplicatedOutput`. Here the cluster becomes a function of
its own, which XLA lowers to HLO as the TPU's runtime would: the program of one
replica, with sums over all replicas.

The strategy must have as many replicas as the sums are over, even if only one
replica's program is needed.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bert_pretrain.tpu import absent_tpu

_HERE = "/job:localhost/replica:0/task:0/device:CPU:0"
_CLUSTER = "_tpu_replicate"
_INPUT, _OUTPUT = "TPUReplicatedInput", "TPUReplicatedOutput"
# They have the mark of the cluster, but only the runtime uses them.
_NOT_COMPUTED = ("TPUReplicateMetadata", "TPUCompilationResult")


@dataclasses.dataclass(frozen=True)
class Variable:
    """A parameter whose value is that of a variable."""

    variable: tf.Variable  # distributed: it has a value for each replica


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter whose value is passed in each call."""

    indexes: tuple[int, ...]  # of the call's tensors, by replica


@dataclasses.dataclass(frozen=True)
class Constant:
    """A parameter with the same value in each call, e.g. a replica's number."""

    values: tuple[np.ndarray, ...]  # by replica


Parameter = Variable | Argument | Constant


@dataclasses.dataclass(frozen=True)
class DeviceProgram:
    """The program of one replica.

    Its results are, in this order: the outputs, the values of `variables` if
    they were requested, and the new values of the updated variables.
    """

    hlo: bytes = dataclasses.field(repr=False)  # a serialized HloModuleProto
    num_replicas: int
    parameters: tuple[Parameter, ...]
    num_outputs: int  # of one replica
    outputs: Any  # the structure of the outputs of all replicas
    variables: tuple[tf.Variable, ...]


def of_run(
    strategy: absent_tpu.AbsentTPUStrategy,
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    with_values: bool = False,
) -> DeviceProgram:
    """The program of `strategy.run(function, args)`.

    Args:
      args: the values for the replicas, or their `tf.TypeSpec`s.
      with_values: the program also returns the final values of all variables,
        so that a caller can continue with them. A TPU's program does not.

    Raises:
      ValueError: if an operation of the cluster has an input outside of it
        that is not a `TPUReplicatedInput`.
    """

    @tf.function(autograph=False)
    def call(*args):
        return strategy.run(function, args=args)

    traced = call.get_concrete_function(*args)
    graph = traced.graph
    cluster = _cut_out(graph.as_graph_def())
    indexes = {tensor.name: i for i, tensor in enumerate(graph.inputs)}
    captures = {inner.name: outer for outer, inner in graph.captures}
    variables = _by_handle(strategy.variables)
    sources = [
        _source(graph, name, indexes, captures, variables)
        for name in cluster.inputs
    ]
    hlo, order = _lower(graph, cluster, sources, with_values)
    return DeviceProgram(
        hlo=hlo,
        num_replicas=strategy.num_replicas_in_sync,
        parameters=tuple(sources[i] for i in order),
        num_outputs=len(cluster.outputs),
        outputs=traced.structured_outputs,
        variables=tuple(
            source.variable
            for source in sources
            if with_values and isinstance(source, Variable)
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Cluster:
    """The operations for the TPU."""

    definition: tf.compat.v1.GraphDef
    inputs: tuple[str, ...]  # names of `TPUReplicatedInput` operations
    outputs: tuple[str, ...]  # names of the tensors that leave the cluster


def _cut_out(definition: tf.compat.v1.GraphDef) -> _Cluster:
    """The cluster of a graph, in operations that XLA has on every device."""
    nodes = {node.name: node for node in definition.node}
    inside = _nodes_inside(definition, nodes)
    cluster = tf.compat.v1.GraphDef(
        library=definition.library, versions=definition.versions
    )
    for function in cluster.library.function:
        for node in function.node_def:
            _translate_sum(node)
    inputs: dict[str, None] = {}
    for node in inside.values():
        copy = cluster.node.add()
        copy.CopyFrom(node)
        if _CLUSTER in copy.attr:
            copy.attr.pop(_CLUSTER)
        copy.device = ""
        del copy.input[:]
        for name in node.input:
            base = name.lstrip("^").split(":")[0]
            if base in inside:
                copy.input.append(name)
            elif not name.startswith("^"):
                if nodes[base].op != _INPUT:
                    raise ValueError(
                        f"{node.name} takes {name}, which is not an input of "
                        "the cluster."
                    )
                copy.input.append(name)
                inputs[base] = None
        _translate_sum(copy)
    outputs = [
        node.input[0] if ":" in node.input[0] else f"{node.input[0]}:0"
        for node in definition.node
        if node.op == _OUTPUT
    ]
    return _Cluster(cluster, tuple(inputs), tuple(outputs))


def _nodes_inside(
    definition: tf.compat.v1.GraphDef,
    nodes: Mapping[str, tf.compat.v1.NodeDef],
) -> dict[str, tf.compat.v1.NodeDef]:
    """The nodes that have the cluster's mark, and their constants, by name."""
    inside = {
        node.name: node
        for node in definition.node
        if _CLUSTER in node.attr and node.op not in _NOT_COMPUTED
    }
    # Some optimizers create their constants outside of the cluster.
    for node in list(inside.values()):
        for name in node.input:
            base = name.split(":")[0]
            if base in nodes and nodes[base].op == "Const":
                inside[base] = nodes[base]
    return inside


def _translate_sum(node: tf.compat.v1.NodeDef) -> None:
    """Replaces the TPU's sum over replicas by that of XLA's other compilers."""
    if node.op == "CrossReplicaSum":
        node.op = "XlaAllReduce"
        node.attr["reduce_op"].s = b"Add"
        node.attr["mode"].s = b"CrossReplica"


def _source(
    graph: tf.Graph,
    name: str,
    indexes: Mapping[str, int],
    captures: Mapping[str, tf.Tensor],
    variables: Mapping[int, tf.Variable],
) -> Parameter:
    """Where the value of one input of the cluster comes from.

    Args:
      name: of a `TPUReplicatedInput`.
      indexes: the place of each of the call's tensors, by name.
      captures: captured tensors, by their names inside of the graph.
      variables: see `_by_handle`.
    """
    tensors = [
        graph.get_tensor_by_name(i if ":" in i else f"{i}:0")
        for i in graph.get_operation_by_name(name).node_def.input
        if not i.startswith("^")
    ]
    if tensors[0].dtype == tf.resource:
        return Variable(variables[id(captures[tensors[0].name])])
    if all(tensor.name in indexes for tensor in tensors):
        return Argument(tuple(indexes[tensor.name] for tensor in tensors))
    return Constant(tuple(tf.get_static_value(t) for t in tensors))


def _by_handle(
    variables: Iterable[tf.Variable],
) -> dict[int, tf.Variable]:
    """Distributed variables by the ids of their handles in graphs."""
    found = {}
    for variable in variables:
        packed = variable._packed_var
        if packed is not None:
            found[id(packed._handle)] = variable
        found[id(variable.values[0].handle)] = variable
    return found


def _lower(
    graph: tf.Graph,
    cluster: _Cluster,
    sources: list[Parameter],
    with_values: bool,
) -> tuple[bytes, list[int]]:
    """Lowers the cluster to HLO.

    Returns:
      The serialized HLO, and for each of its parameters the index in
      `sources`.
    """
    variables = {
        i: source.variable
        for i, source in enumerate(sources)
        if isinstance(source, Variable)
    }
    given = [i for i in range(len(sources)) if i not in variables]
    local = {i: _local(v.values[0]) for i, v in variables.items()}
    handles = {i: variable.handle for i, variable in local.items()}

    def program(*values):
        default = tf.compat.v1.get_default_graph()
        inputs = {
            f"{cluster.inputs[i]}:0": default.capture(handle)
            for i, handle in handles.items()
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
            # Automatic control dependencies place these reads after the
            # updates.
            results += [
                tf.raw_ops.ReadVariableOp(
                    resource=inputs[f"{cluster.inputs[i]}:0"],
                    dtype=variable.dtype,
                )
                for i, variable in variables.items()
            ]
        return results or [tf.constant(0)]

    function = tf.function(program, jit_compile=True, autograph=False)
    specs = [_spec(graph, cluster.inputs[i]) for i in given]
    traced = function.get_concrete_function(*specs)
    # Connected to a cluster, TensorFlow would otherwise ask a worker.
    with tf.device(_HERE):
        hlo = function.experimental_get_compiler_ir(
            *[tf.zeros(spec.shape, spec.dtype) for spec in specs]
        )(stage="hlo_serialized")
    by_handle = {id(handle): i for i, handle in handles.items()}
    captured = [by_handle[id(outer)] for outer, _ in traced.graph.captures]
    return hlo, given + captured


def _local(variable: tf.Variable) -> tf.Variable:
    """The variable, or a local one of the same type if it is on a worker.

    TensorFlow lowers programs on the variables of its own process only.
    """
    if "/job:worker/" not in variable.device:
        return variable
    with tf.init_scope(), tf.device(_HERE):
        return tf.Variable(tf.zeros(variable.shape, variable.dtype))


def _spec(graph: tf.Graph, name: str) -> tf.TensorSpec:
    tensor = graph.get_tensor_by_name(f"{name}:0")
    return tf.TensorSpec(tensor.shape, tensor.dtype)
