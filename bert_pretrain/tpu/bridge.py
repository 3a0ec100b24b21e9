"""TensorFlow's own TPU bridge: what a traced function becomes beyond it.

The bridge parts a function into a program for the TPUs, its cluster, and one
for the hosts around it. A TPU's runtime does so before all else, and refuses
what a TPU cannot compute; the plain wheel can do it too, without a TPU.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable

import tensorflow as tf
from tensorflow.python import pywrap_mlir
from tensorflow.python.framework import kernels

_SUM = "CrossReplicaSum"

# What XLA has for other devices, and a TPU has not, or not as a run needs it.
_NOT_ON_TPUS = {
    "AllToAll": "sends around what each replica has itself: let the variable "
    "be synchronized ON_READ",
    "Assert": "checks nothing there",
    "CollectiveAssignGroupV2": f"is for processes; replicas have {_SUM}",
    "CollectiveReduceV2": f"is for processes; replicas have {_SUM}",
    "XlaCustomCall": "calls what another device has",
    "XlaCustomCallV2": "calls what another device has",
    "_XlaAotOnlyVarHandleOp": "is for what is compiled ahead, for CPUs",
}
# See tf2xla's rng_converter_utils.cc. A run that comes from another device
# would go on otherwise, and what is executed on CPUs would tell nothing.
_DRAWS = re.compile("Random|Multinomial|TruncatedNormal|^Stateful|^Rng")
_DRAWN_OTHERWISE = (
    "draws other numbers on a TPU than elsewhere; seeding.py and kernels.py "
    "draw the same"
)
# Elements that a TPU's memory does not hold, as MLIR names their types.
_NO_ELEMENTS = re.compile(r"!tf_type\.string|complex<f64>")
_MLIR_TYPES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "i32": "int32",
    "ui32": "uint32",
}

# What a host does beside the cluster: little, since the TPUs wait for it.
_ON_HOSTS = frozenset(
    {
        # A loop of steps.
        *("Const", "Identity", "While", "Less", "AddV2"),
        # Its input, and how long it had to wait for that.
        *("IteratorGetNext", "Timestamp", "Sub", "Mul", "Cast"),
        "AssignAddVariableOp",
        # The variables that the cluster is given and gives back, which the
        # runtime leaves where they are.
        *("ReadVariableOp", "AssignVariableOp"),
        "TPUCompilationResult",
    }
)
_CALLBACKS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})

# The bridge's names, where they are not TensorFlow's.
_NAMES = {"IfRegion": "If", "WhileRegion": "While", "CaseRegion": "Case"}
_END_OF_REGION, _END_OF_GRAPH = "Yield", "_Retval"


@dataclasses.dataclass(frozen=True)
class Crossed:
    """A function beyond the bridge: how many there are of each operation."""

    num_clusters: int
    device: collections.Counter
    host: collections.Counter
    sum_types: frozenset[str]  # of what is summed over the replicas
    other_types: frozenset[str]  # of elements that a TPU does not hold


def check(traced: tf.types.experimental.ConcreteFunction) -> Crossed:
    """Checks that a TPU and its hosts have what a function asks for.

    Raises:
      ValueError: telling all that is wrong.
    """
    crossed = cross(traced)
    problems = [
        *_clusters(crossed),
        *_problems("the TPU", crossed.device, _why_no_tpu_has),
        *(
            f"the TPU: {_SUM} adds no {name}"
            for name in sorted(crossed.sum_types - _addable())
        ),
        *(f"the TPU: holds no {name}" for name in sorted(crossed.other_types)),
        *_problems("the host", crossed.host, _why_not_beside_a_cluster),
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    return crossed


def cross(traced: tf.types.experimental.ConcreteFunction) -> Crossed:
    """Sends a function over the bridge.

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
    host, device = [], []
    for function in text.split("\n  func.func ")[1:]:
        name = re.search(r"@(\w+)\(", function)[1]
        (device if name in clusters else host).append(function)
    return Crossed(
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
        other_types=frozenset(
            name
            for function in device
            for name in _NO_ELEMENTS.findall(function)
        ),
    )


def check_input(dataset: tf.data.Dataset) -> None:
    """Checks that a TPU's host, too, can read a dataset.

    The hosts of a slice run TensorFlow's own server: it has no operations of
    other packages, and none of our Python.

    Raises:
      ValueError: telling all that is wrong.
    """
    graph = tf.compat.v1.GraphDef.FromString(
        dataset._as_serialized_graph().numpy()
    )
    nodes = [
        *graph.node,
        *(n for f in graph.library.function for n in f.node_def),
    ]
    operations = collections.Counter(
        node.op for node in nodes if node.op not in _functions(graph)
    )
    if problems := [*_problems("the input", operations, _why_not_on_a_host)]:
        raise ValueError("; ".join(problems) + ".")


def _operations(functions):
    names = [
        _NAMES.get(name, name)
        for function in functions
        for name in re.findall(r'"tf\.(\w+)"\(', function)
    ]
    return collections.Counter(n for n in names if n != _END_OF_REGION)


def _clusters(crossed):
    if crossed.num_clusters != 1:
        yield (
            f"{crossed.num_clusters} clusters, where one program is to be "
            "all that the TPUs do"
        )


def _problems(
    place: str, operations: Iterable[str], why_not: Callable
) -> Iterable[str]:
    for name in sorted(operations):
        if (reason := why_not(name)) is not None:
            yield f"{place}: {name} {reason}"


def _why_no_tpu_has(name):
    if name in _NOT_ON_TPUS:
        return _NOT_ON_TPUS[name]
    if _DRAWS.search(name):
        return _DRAWN_OTHERWISE
    if name != _SUM and name not in _of_xla():
        return "is not among XLA's operations"
    return None


def _why_not_beside_a_cluster(name):
    return None if name in _ON_HOSTS else "is computed outside of the cluster"


def _why_not_on_a_host(name):
    if name in _CALLBACKS:
        return "calls Python"
    if name != _END_OF_GRAPH and not hasattr(tf.raw_ops, name):
        return "is not TensorFlow's own"
    return None


def _functions(graph):
    return {function.signature.name for function in graph.library.function}


def _addable():
    """Types that XLA adds over replicas."""
    return _of_xla()["XlaAllReduce"]


@functools.cache
def _of_xla():
    """XLA's operations, and of each the types that its inputs may have.

    Those for CPUs: the plain wheel has no others, and TensorFlow keeps none
    of them from TPUs (tpu_node_device_util.cc).
    """
    # They are registered when the first one is asked for.
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
