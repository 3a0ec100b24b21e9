"""TensorFlow's own TPU bridge, and checks of the programs that it makes.

The bridge divides a traced function into a program for the TPUs, called the
cluster, and a program for the hosts around it. A TPU's runtime does this first,
and refuses operations that a TPU cannot compute. The plain TensorFlow wheel
contains the bridge too, and needs no TPU for it.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf
from tensorflow.python import pywrap_mlir
from tensorflow.python.framework import kernels

_SUM = "CrossReplicaSum"

# XLA has these operations for other devices. A TPU does not have them, or they
# do not do there what a run needs.
_NOT_ON_TPUS = {
    "AllToAll": "sends each replica values that it already has; give the "
    "variable synchronization=ON_READ",
    "Assert": "checks nothing on a TPU",
    "CollectiveAssignGroupV2": f"is for processes; replicas use {_SUM}",
    "CollectiveReduceV2": f"is for processes; replicas use {_SUM}",
    "XlaCustomCall": "calls code of another device",
    "XlaCustomCallV2": "calls code of another device",
    "_XlaAotOnlyVarHandleOp": "is only for programs compiled ahead of time "
    "for CPUs",
}
# A TPU has another random generator (tf2xla's rng_converter_utils.cc). A run
# that moves to TPUs from another device would continue with other numbers, and
# executing its programs on CPUs would prove nothing.
_RANDOM = re.compile("Random|Multinomial|TruncatedNormal|^Stateful|^Rng")
_WHY_NOT_RANDOM = (
    "draws other numbers on a TPU than on other devices; use seeding.py and "
    "fused_operations.py, which draw the same numbers everywhere"
)
# Element types that a TPU's memory cannot hold, as MLIR writes them.
_REFUSED_TYPES = re.compile(r"!tf_type\.string|complex<f64>")
_MLIR_TYPES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "i32": "int32",
    "ui32": "uint32",
}

# Operations that a host may execute. They are few, because the TPUs wait for
# the host.
_ON_HOSTS = frozenset(
    {
        # The loop over steps.
        *("Const", "Identity", "While", "Less", "AddV2"),
        # The input, and the time that the host waits for it.
        *("IteratorGetNext", "Timestamp", "Sub", "Mul", "Cast"),
        "AssignAddVariableOp",
        # Variables that the cluster reads and updates. The runtime leaves
        # them on the TPUs.
        *("ReadVariableOp", "AssignVariableOp"),
        "TPUCompilationResult",
    }
)
_CALLBACKS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})

# The bridge's own names of TensorFlow's operations.
_NAMES = {"IfRegion": "If", "WhileRegion": "While", "CaseRegion": "Case"}
_END_OF_REGION, _END_OF_GRAPH = "Yield", "_Retval"


@dataclasses.dataclass(frozen=True)
class Converted:
    """A function after the bridge: its operations, with their numbers."""

    num_clusters: int
    device: collections.Counter[str]
    host: collections.Counter[str]
    sum_types: frozenset[str]  # element types that are summed over replicas
    refused_types: frozenset[str]  # element types that a TPU cannot hold


def check(traced: tf.types.experimental.ConcreteFunction) -> Converted:
    """Checks that a TPU and its hosts can execute a function.

    Raises:
      ValueError: with all problems that were found.
    """
    converted = convert(traced)
    problems = [
        *_cluster_problems(converted),
        *_problems("the TPU", converted.device, _why_not_on_a_tpu),
        *(
            f"the TPU: {_SUM} adds no {name}"
            for name in sorted(converted.sum_types - _addable_types())
        ),
        *(
            f"the TPU: holds no {name}"
            for name in sorted(converted.refused_types)
        ),
        *_problems("the host", converted.host, _why_not_beside_a_cluster),
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    return converted


def convert(traced: tf.types.experimental.ConcreteFunction) -> Converted:
    """Passes a function through the bridge.

    Raises:
      ValueError: if the bridge refuses it.
    """
    module = pywrap_mlir.import_function(
        traced, "builtin.module(tf-shape-inference)", False
    )
    try:
        text = pywrap_mlir.experimental_run_pass_pipeline(
            module, "tf-replicated-clustering-bridge-v2", False
        )
    except tf.errors.OpError as error:
        reasons = re.findall(r"error: (.*)", error.message)
        raise ValueError("; ".join(reasons) or error.message) from error
    clusters = re.findall(r'"tf_device\.cluster_func".*?func = @(\w+)', text)
    host: list[str] = []
    device: list[str] = []
    for function in text.split("\n  func.func ")[1:]:
        name = next(re.finditer(r"@(\w+)\(", function))[1]
        (device if name in clusters else host).append(function)
    return Converted(
        num_clusters=len(clusters),
        device=_operations(device),
        host=_operations(host),
        sum_types=frozenset(
            _MLIR_TYPES.get(name, name)
            for function in device
            for name in re.findall(
                rf'"tf\.{_SUM}".*?: \(tensor<(?:[\d?*]+x)*(\w+)>', function
            )
        ),
        refused_types=frozenset(
            name
            for function in device
            for name in _REFUSED_TYPES.findall(function)
        ),
    )


def check_input(dataset: tf.data.Dataset) -> None:
    """Checks that the host of a TPU can execute an input pipeline.

    The hosts of a slice run TensorFlow's own server. It has no operations of
    other packages and cannot call our Python code.

    Raises:
      ValueError: with all problems that were found.
    """
    graph = tf.compat.v1.GraphDef.FromString(
        dataset._as_serialized_graph().numpy()
    )
    nodes = [
        *graph.node,
        *(n for f in graph.library.function for n in f.node_def),
    ]
    functions = {f.signature.name for f in graph.library.function}
    operations = {node.op for node in nodes} - functions
    if problems := [*_problems("the input", operations, _why_not_on_a_host)]:
        raise ValueError("; ".join(problems) + ".")


def _operations(functions: Iterable[str]) -> collections.Counter[str]:
    """Counts the operations in the MLIR text of functions."""
    names = [
        _NAMES.get(name, name)
        for function in functions
        for name in re.findall(r'"tf\.(\w+)"\(', function)
    ]
    return collections.Counter(n for n in names if n != _END_OF_REGION)


def _cluster_problems(converted: Converted) -> Iterator[str]:
    if converted.num_clusters != 1:
        yield (
            f"{converted.num_clusters} clusters; a call must have exactly one "
            "program for the TPUs"
        )


def _problems(
    place: str,
    operations: Iterable[str],
    why_not: Callable[[str], str | None],
) -> Iterator[str]:
    """One message for each operation that has a reason against it."""
    for name in sorted(operations):
        if (reason := why_not(name)) is not None:
            yield f"{place}: {name} {reason}"


def _why_not_on_a_tpu(name: str) -> str | None:
    if name in _NOT_ON_TPUS:
        return _NOT_ON_TPUS[name]
    if _RANDOM.search(name):
        return _WHY_NOT_RANDOM
    if name != _SUM and name not in _xla_operations():
        return "is not an operation of XLA"
    return None


def _why_not_beside_a_cluster(name: str) -> str | None:
    return None if name in _ON_HOSTS else "is computed outside of the cluster"


def _why_not_on_a_host(name: str) -> str | None:
    if name in _CALLBACKS:
        return "calls Python"
    if name != _END_OF_GRAPH and not hasattr(tf.raw_ops, name):
        return "is not TensorFlow's own"
    return None


def _addable_types() -> set[str]:
    """Element types that XLA can sum over replicas."""
    return _xla_operations()["XlaAllReduce"]


@functools.cache
def _xla_operations() -> dict[str, set[str]]:
    """XLA's operations, and the types that the inputs of each may have.

    They are the operations for CPUs: the plain wheel has no others, and
    TensorFlow allows all of them on TPUs (tpu_node_device_util.cc).
    """
    # TensorFlow registers the operations when the first function is compiled
    # in this process.
    with tf.device("/job:localhost/replica:0/task:0/device:CPU:0"):
        tf.function(tf.identity, jit_compile=True).get_concrete_function(0.0)()
    return {
        kernel.op: {
            tf.as_dtype(value).name
            for constraint in kernel.constraint
            for value in constraint.allowed_values.list.type
        }
        for kernel in kernels.get_all_registered_kernels().kernel
        if kernel.device_type == "XLA_CPU_JIT"
    }
