"""The attention kernel of TPUs, for graphs of TensorFlow.

jax compiles the kernel while the step is traced, and must not look for a TPU
of its own meanwhile: TensorFlow has it.
"""

import contextlib
import contextvars
import functools
import importlib.util
from typing import Literal

import tensorflow as tf

from bert_pretrain.model import kernels, recomputation

GROUP_WIDTH = 128  # lanes of a TPU's registers, which hold a group of heads
_MAX_SEQ_LENGTH = 2048  # keys and values of a group, twice, in fast memory
_form = contextvars.ContextVar("form", default="kernel")


@contextlib.contextmanager
def form(name: Literal["kernel", "interpreted", "plain"]):
    """Traces steps for TPUs with the kernel (as is done if jax is there),
    with the kernel in plain operations, which every XLA compiler takes, or
    with plain attention."""
    token = _form.set(name)
    try:
        yield
    finally:
        _form.reset(token)


def is_used(seq_length: int, num_heads: int, head_size: int) -> bool:
    """Whether what is traced now has the kernel, for whole rows."""
    return (
        recomputation.is_one_program()
        and _form.get() != "plain"
        and obstacle(seq_length, num_heads, head_size) is None
    )


def obstacle(seq_length: int, num_heads: int, head_size: int) -> str | None:
    """Why a TPU would be given plain attention, and what to do; or None."""
    if importlib.util.find_spec("jax") is None:
        return "jax is not installed: pip install jax==0.7.1 jaxlib==0.7.1"
    if GROUP_WIDTH % head_size or num_heads % (GROUP_WIDTH // head_size):
        return (
            f"{num_heads} heads of {head_size} do not fill registers of "
            f"{GROUP_WIDTH}"
        )
    if seq_length % GROUP_WIDTH or seq_length > _MAX_SEQ_LENGTH:
        return (
            f"rows of {seq_length} tokens are no multiple of {GROUP_WIDTH} up "
            f"to {_MAX_SEQ_LENGTH}"
        )
    return None


def attend(
    qkv_BSX: tf.Tensor,
    ids_BS: tf.Tensor,
    num_heads: int,
    rate: float,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Attention of whole rows; nothing but its inputs is kept.

    Args:
      qkv_BSX: group by group the queries, the keys and the values; queries
        are already divided by the root of the head size.
      ids_BS: int32; a token sees those with its own.
      rate, seed: see `kernels.dropout`.
    """
    if seed is None:
        rate, seed = 0.0, tf.zeros([2], tf.int32)
    head_size = qkv_BSX.shape[-1] // (3 * num_heads)
    forward, backward = _functions(
        num_heads, head_size, rate, _form.get() == "interpreted"
    )

    @tf.custom_gradient
    def run(qkv_BSX):
        def gradient(upstream_BSH):
            return backward(seed, ids_BS, qkv_BSX, upstream_BSH)

        # The tape need not look for another gradient in it.
        return forward(seed, ids_BS, tf.stop_gradient(qkv_BSX)), gradient

    return run(qkv_BSX)


@functools.cache
def _functions(num_heads, head_size, rate, is_interpreted):
    """The kernel and its gradient, as functions of tensors."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from bert_pretrain.model import pallas_attention

    attention = pallas_attention.Attention(
        num_heads,
        head_size,
        rate,
        kernels.GOLDEN_STEP,
        kernels.MIXING,
        is_interpreted,
    )
    return (
        _from_jax(attention.forward(), is_interpreted),
        _from_jax(attention.backward(), is_interpreted),
    )


def _from_jax(function, is_interpreted):
    from jax import export
    from jax.experimental import jax2tf

    # Lowered for TPUs, on the host that traces; and so that TensorFlow
    # passes it on, whatever it finds itself on.
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
