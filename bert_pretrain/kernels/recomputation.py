"""Values that the gradient needs: stored, or computed a second time.

Memory and memory bandwidth limit a step on a TPU. There, the forward pass
stores few values, and the gradient computes the others again in a pass that
XLA fuses with its own. On other devices such a pass reads and writes memory
separately, so all values are stored unless the caller wants otherwise.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops


def is_one_program() -> bool:
    """Whether XLA compiles the traced step as a whole, as it does on TPUs."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def recomputed(
    function: Callable[..., tf.Tensor], *tensors: tf.Tensor
) -> tf.Tensor:
    """Computes `function(*tensors)` and keeps only `tensors`.

    The backward pass computes the function a second time (Chen et al. 2016)
    when the gradient of the result is available.
    """
    return _recomputed(function, tensors, is_late=True)


def recompute_cheaply(
    function: Callable[..., tf.Tensor], *tensors: tf.Tensor
) -> tf.Tensor:
    """Does the same as `recomputed` on TPUs, where it saves time.

    Unlike with `recomputed`, XLA may choose when to compute the function
    again, and may fuse it with the operations that use its values. On other
    devices all values are kept.
    """
    if is_one_program():
        return _recomputed(function, tensors, is_late=False)
    return function(*tensors)


def _recomputed(
    function: Callable[..., tf.Tensor],
    tensors: Sequence[tf.Tensor],
    is_late: bool,
) -> tf.Tensor:
    @tf.custom_gradient
    def run(*tensors):
        def gradient(*upstream, variables=()):
            again = _again(tensors, upstream if is_late else ())
            with tf.GradientTape() as tape:
                tape.watch(again)
                results = function(*again)
            gradients, variable_gradients = tape.gradient(
                results, (again, list(variables)), list(upstream)
            )
            return (gradients, variable_gradients) if variables else gradients

        return function(*tensors), gradient

    return run(*tensors)


def as_stored(values: tf.Tensor) -> tf.Tensor:
    """Makes XLA store the values in their own dtype.

    XLA removes a cast to bfloat16 if a cast to float32 follows. It would then
    store the values that it keeps for the gradient in float32.
    """
    if not is_one_program():
        return values

    @tf.custom_gradient
    def store(values):
        return _barrier([values])[0], lambda upstream: upstream

    return store(values)


def apart(values: tf.Tensor) -> tf.Tensor:
    """Returns the values and puts a barrier into their gradient.

    XLA then does not fuse the operations that compute the gradient of the
    values with the operations that use this gradient.
    """
    if not is_one_program():
        return values

    @tf.custom_gradient
    def hold(values):
        return values, lambda upstream: _barrier([upstream])[0]

    return hold(values)


def _again(
    tensors: Sequence[tf.Tensor], after: Sequence[tf.Tensor]
) -> Sequence[tf.Tensor]:
    """Copies of the tensors, from which a second computation can start.

    From the tensors themselves, XLA and TensorFlow would merge the second
    computation with the first one, and keep all values of the first one.

    Args:
      tensors: the inputs of the computation.
      after: tensors that must be computed before the copies.
    """
    if is_one_program():
        # One element of each tensor is enough to wait for the tensor, and
        # XLA can still fuse operations on the whole tensor.
        elements = [tf.reshape(value, [-1])[0] for value in after]
        return _barrier([*tensors, *elements])[: len(tensors)]
    with tf.control_dependencies(after):
        return [tf.identity(tensor) for tensor in tensors]


def _barrier(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The values behind a barrier.

    XLA does not move, merge or fuse operations across the barrier.
    """
    return gen_xla_ops.xla_optimization_barrier(input=values)
