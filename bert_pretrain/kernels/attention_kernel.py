"""The attention kernel for TPUs, as an operation of TensorFlow graphs.

jax compiles the kernel while TensorFlow traces the step. jax must not look for
a TPU during this time, because TensorFlow already holds the TPU.
"""

import contextlib
import contextvars
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Literal

import tensorflow as tf

from bert_pretrain.devices import versions
from bert_pretrain.kernels import fused_operations, recomputation

GROUP_WIDTH = 128  # lanes of a TPU register; one register holds a head group
# The fast memory holds two copies of a group's keys and values.
_MAX_SEQ_LENGTH = 2048
Form = Literal["kernel", "interpreted", "plain"]
_form: contextvars.ContextVar[Form] = contextvars.ContextVar(
    "form", default="kernel"
)


@contextlib.contextmanager
def form(name: Form) -> Iterator[None]:
    """Selects the attention of the steps that are traced for TPUs.

    Args:
      name: "kernel", the default, uses the kernel if jax is installed.
        "interpreted" uses the kernel in plain operations, which every XLA
        compiler accepts. "plain" uses `fused_operations.attention`.
    """
    token = _form.set(name)
    try:
        yield
    finally:
        _form.reset(token)


def is_used(seq_length: int, num_heads: int, head_size: int) -> bool:
    """Whether attention of all positions uses the kernel if traced now."""
    return (
        recomputation.is_one_program()
        and _form.get() != "plain"
        and obstacle(seq_length, num_heads, head_size) is None
    )


def obstacle(seq_length: int, num_heads: int, head_size: int) -> str | None:
    """The reason why a TPU cannot use the kernel, or None if it can."""
    if importlib.util.find_spec("jax") is None:
        in_force = versions.in_force()
        return (
            f"jax is not installed: pip install -c {in_force.constraints} jax"
        )
    if GROUP_WIDTH % head_size or num_heads % (GROUP_WIDTH // head_size):
        return (
            f"{num_heads} heads of {head_size} do not fill registers of "
            f"{GROUP_WIDTH}"
        )
    if seq_length % GROUP_WIDTH or seq_length > _MAX_SEQ_LENGTH:
        return (
            f"rows of {seq_length} tokens are not a multiple of "
            f"{GROUP_WIDTH}, or exceed {_MAX_SEQ_LENGTH}"
        )
    return None


def attend(
    qkv_BSX: tf.Tensor,
    ids_BS: tf.Tensor,
    num_heads: int,
    rate: float,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Attention of all positions; only its inputs are kept for the gradient.

    Args:
      qkv_BSX: for each group of heads the queries, the keys and the values.
        The queries are already divided by the root of the head size.
      ids_BS: int32 document ids; a token sees the tokens with the same id.
      num_heads: N.
      rate: see `fused_operations.dropout`.
      seed: see `fused_operations.dropout`.

    Returns:
      [B, S, H].
    """
    if seed is None:
        rate, seed = 0.0, tf.zeros([2], tf.int32)
    head_size = qkv_BSX.shape[-1] // (3 * num_heads)
    forward, backward = _convert_kernel(
        num_heads, head_size, rate, _form.get() == "interpreted"
    )

    @tf.custom_gradient
    def run(qkv_BSX):
        def gradient(upstream_BSH):
            return backward(seed, ids_BS, qkv_BSX, upstream_BSH)

        # `gradient` is complete: the tape must not look for another one.
        return forward(seed, ids_BS, tf.stop_gradient(qkv_BSX)), gradient

    return run(qkv_BSX)


@functools.cache
def _convert_kernel(
    num_heads: int, head_size: int, rate: float, is_interpreted: bool
) -> tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]]:
    """The kernel and its gradient as TensorFlow functions."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    # TensorFlow 2.18 reads no later form of an exported function.
    jax.config.update("jax_export_calling_convention_version", 9)
    from bert_pretrain.kernels import pallas_attention

    attention = pallas_attention.Attention(
        num_heads,
        head_size,
        rate,
        fused_operations.GOLDEN_STEP,
        fused_operations.MIXING,
        is_interpreted,
    )
    return (
        _convert(attention.forward(), is_interpreted),
        _convert(attention.backward(), is_interpreted),
    )


def _convert(
    function: Callable, is_interpreted: bool
) -> Callable[..., tf.Tensor]:
    """A jax function as a TensorFlow function."""
    from jax import export
    from jax.experimental import jax2tf

    # The host lowers the function for TPUs. TensorFlow must accept the result
    # on any platform, so the checks of the platform are disabled.
    safety = export.DisabledSafetyCheck
    checks = safety.platform(), safety.custom_call("tpu_custom_call")
    return tf.function(
        jax2tf.convert(
            function,
            with_gradient=False,
            native_serialization_platforms=(
                ("cpu",) if is_interpreted else ("tpu",)
            ),
            native_serialization_disabled_checks=checks,
        ),
        autograph=False,
    )
