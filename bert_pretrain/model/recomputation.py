"""What is kept for the gradient, and what is computed again.

Memory and its traffic are what a TPU runs out of first, so there little is
kept: what can be computed again from what is kept anyway, in one pass. On
other devices, where such a pass is a walk through memory of its own, all is
kept, unless asked otherwise.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops


def is_one_program() -> bool:
    """Whether what is traced now is compiled by XLA as a whole: on TPUs."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def recomputed(function: Callable, *tensors: tf.Tensor):
    """`function(*tensors)`, of which nothing but `tensors` is kept.

    What its gradient needs is computed a second time (Chen et al. 2016),
    once the gradient of its results has come.
    """
    return _recomputed(function, tensors, is_late=True)


def recompute_cheaply(function: Callable, *tensors: tf.Tensor):
    """`recomputed` where that saves more than it costs: on TPUs.

    XLA may choose when to compute it again, and fuse it with what it is for.
    """
    if is_one_program():
        return _recomputed(function, tensors, is_late=False)
    return function(*tensors)


def _recomputed(function, tensors, is_late):
    @tf.custom_gradient
    def run(*tensors):
        def gradient(*upstream, variables=()):
            again = _again(tensors, upstream if is_late else ())
            with tf.GradientTape() as tape:
                tape.watch(again)
                results = function(*again)
            gradients, of_variables = tape.gradient(
                results, (again, list(variables)), list(upstream)
            )
            return (gradients, of_variables) if variables else gradients

        return function(*tensors), gradient

    return run(*tensors)


def as_stored(values: tf.Tensor) -> tf.Tensor:
    """The values, rounded to their dtype for whoever reads them.

    XLA drops a rounding to bfloat16 that is followed by a cast to float32,
    and then stores what it keeps for the gradient in float32.
    """
    if not is_one_program():
        return values

    @tf.custom_gradient
    def store(values):
        return _barrier([values])[0], lambda upstream: upstream

    return store(values)


def apart(values: tf.Tensor) -> tf.Tensor:
    """The values; XLA does not merge what their gradient comes from with
    what it goes through."""
    if not is_one_program():
        return values

    @tf.custom_gradient
    def hold(values):
        return values, lambda upstream: _barrier([upstream])[0]

    return hold(values)


def _again(tensors, after):
    """The tensors, for a second computation that is not the first one.

    Else XLA and TensorFlow would merge the two, and keep all of the first.

    Args:
      after: what must be there before.
    """
    if is_one_program():
        # An element of each is enough, and leaves the rest to be fused.
        signs = [tf.reshape(value, [-1])[0] for value in after]
        return _barrier([*tensors, *signs])[: len(tensors)]
    with tf.control_dependencies(after):
        return [tf.identity(tensor) for tensor in tensors]


def _barrier(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Nothing is moved, merged or fused over it by XLA."""
    return gen_xla_ops.xla_optimization_barrier(input=values)
