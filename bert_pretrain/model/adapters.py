"""Adapters: small trained additions to a model whose weights stay as they are.

LoRA adds a product of two thin matrices to the kernels of dense layers (Hu et
al. 2021, section 4.1). A bottleneck adapter is a small network behind the
feed-forward network of each layer (Houlsby et al. 2019, section 2.1, placed
once a layer as in Pfeiffer et al. 2021, section 2.1.2). There is one forward
pass, `encoder.encode`. It is given a view of the model, in which the adapted
parts stand in place of HuggingFace's.

X, Y = inputs and outputs of a dense layer, R = rank, H = hidden size,
M = size of the bottleneck.
"""

import math
from typing import Any

import tensorflow as tf
import transformers

from bert_pretrain import errors
from bert_pretrain.kernels import seeding
from bert_pretrain.model import model_config, transformer_layer

# The places in HuggingFace's layer of the dense layers that LoRA can change.
TARGETS: dict[model_config.Target, tuple[str, ...]] = {
    "query": ("attention", "self_attention", "query"),
    "key": ("attention", "self_attention", "key"),
    "value": ("attention", "self_attention", "value"),
    "attention_output": ("attention", "dense_output", "dense"),
    "intermediate": ("intermediate", "dense"),
    "output": ("bert_output", "dense"),
}


class LowRank(tf.Module):
    """LoRA's change of a kernel: alpha / R · A · B."""

    def __init__(
        self,
        kernel_XY: tf.Variable,
        config: model_config.AdapterConfig,
        seed: tf.Tensor,
    ) -> None:
        """Begins with A at random and B zero, so that the change is zero."""
        super().__init__()
        num_inputs, num_outputs = kernel_XY.shape
        self._scale = config.lora_alpha / config.lora_rank
        # The paper draws from a normal distribution; its authors' code and
        # PEFT draw from this uniform one.
        limit = 1 / math.sqrt(num_inputs)
        self.a_XR = tf.Variable(
            tf.random.stateless_uniform(
                [num_inputs, config.lora_rank], seed, -limit, limit
            ),
            name="lora_a",
        )
        self.b_RY = tf.Variable(
            tf.zeros([config.lora_rank, num_outputs]), name="lora_b"
        )

    def change_XY(self) -> tf.Tensor:
        """What is added to the kernel."""
        return self._scale * tf.matmul(self.a_XR, self.b_RY)


class Bottleneck(tf.Module):
    """values + up(activation(down(values))), with M values in the middle."""

    def __init__(
        self,
        bert_config: transformers.PretrainedConfig,
        config: model_config.AdapterConfig,
        seed: tf.Tensor,
    ) -> None:
        """Begins with an upper matrix of zeros, so that nothing is added."""
        super().__init__()
        self._activate = transformer_layer.ACTIVATIONS[bert_config.hidden_act]
        hidden_size, size = bert_config.hidden_size, config.bottleneck_size
        self.down_HM = tf.Variable(
            tf.random.stateless_normal(
                [hidden_size, size], seed, stddev=bert_config.initializer_range
            ),
            name="down_kernel",
        )
        self.down_bias_M = tf.Variable(tf.zeros([size]), name="down_bias")
        self.up_MH = tf.Variable(
            tf.zeros([size, hidden_size]), name="up_kernel"
        )
        self.up_bias_H = tf.Variable(tf.zeros([hidden_size]), name="up_bias")

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Adapts values [..., H]; the products have their dtype."""
        inner = transformer_layer.linear(values, self.down_HM, self.down_bias_M)
        return values + transformer_layer.linear(
            self._activate(inner), self.up_MH, self.up_bias_H
        )


class Adapters(tf.Module):
    """The adapters of all layers; without any, the view is the model itself.

    `variables` has all that is trained in them. As a part of a
    `tf.train.Checkpoint` they are saved with it.
    """

    def __init__(
        self,
        config: model_config.AdapterConfig,
        low_rank: list[dict[model_config.Target, LowRank]],
        bottlenecks: list[Bottleneck],
    ) -> None:
        """Takes what `build` made.

        Args:
          config: the kind and size.
          low_rank: for each layer, LoRA's change of each target.
          bottlenecks: for each layer, the adapter; empty for LoRA.
        """
        super().__init__()
        self.config = config
        self.low_rank = low_rank
        self.bottlenecks = bottlenecks

    def view(self, bert: transformers.TFPreTrainedModel) -> Any:
        """The model as the forward pass and the heads are to see it.

        Its attributes are those of the model, but for the adapted parts. It
        owns no variables, and it is cheap: make one for each forward pass.
        """
        layers = list(bert.bert.encoder.layer)
        for number, changes in enumerate(self.low_rank):
            for target, change in changes.items():
                path = TARGETS[target]
                dense = _ChangedDense(_at(layers[number], path), change)
                layers[number] = _with(layers[number], path, dense)
        for number, bottleneck in enumerate(self.bottlenecks):
            layers[number] = _with(layers[number], ("adapter",), bottleneck)
        return _with(bert, ("bert", "encoder", "layer"), layers)


def build(
    bert: transformers.TFPreTrainedModel,
    config: model_config.AdapterConfig,
    seed: int,
) -> Adapters:
    """Makes the adapters of a model, which at first change nothing.

    Their variables belong to the strategy in whose scope this is called.
    """
    layers = bert.bert.encoder.layer
    seeds = seeding.split(tf.constant([seed, 0]), len(layers))
    low_rank, bottlenecks = [], []
    if config.adapter == "lora":
        for layer, of_layer in zip(layers, seeds, strict=True):
            of_targets = seeding.split(of_layer, len(TARGETS))
            low_rank.append(
                {
                    target: LowRank(_at(layer, path).kernel, config, of_target)
                    for (target, path), of_target in zip(
                        TARGETS.items(), of_targets, strict=True
                    )
                    if target in config.lora_targets
                }
            )
    elif config.adapter == "bottleneck":
        bottlenecks = [
            Bottleneck(bert.config, config, of_layer) for of_layer in seeds
        ]
    return Adapters(config, low_rank, bottlenecks)


def merge(bert: transformers.TFPreTrainedModel, adapters: Adapters) -> None:
    """Adds LoRA's changes to the model's own kernels.

    Afterwards the model alone computes what its view computed before.

    Raises:
      UserError: if the adapters are bottlenecks, which no kernel can hold.
    """
    if adapters.bottlenecks:
        raise errors.UserError(
            "--adapter=bottleneck adds layers, which cannot be merged into "
            "the weights of a BERT; use --adapter=lora for a plain model."
        )
    for kernel_XY, change in kernels(bert, adapters):
        kernel_XY.assign_add(change.change_XY())


def kernels(
    bert: transformers.TFPreTrainedModel, adapters: Adapters
) -> list[tuple[tf.Variable, LowRank]]:
    """The kernels that LoRA changes, each with its change."""
    layers = bert.bert.encoder.layer
    return [
        (_at(layers[number], TARGETS[target]).kernel, change)
        for number, changes in enumerate(adapters.low_rank)
        for target, change in changes.items()
    ]


class _ChangedDense:
    """A dense layer whose kernel is changed whenever it is read.

    So the variables are read where the kernel is used, and a pass that is
    computed again (`recomputation.recomputed`) finds their gradients.
    """

    def __init__(self, dense: Any, change: LowRank) -> None:
        self._dense = dense
        self._change = change

    @property
    def kernel(self) -> tf.Tensor:
        return self._dense.kernel + self._change.change_XY()

    @property
    def bias(self) -> tf.Tensor:
        return self._dense.bias


class _Overlay:
    """An object, but for one attribute."""

    def __init__(self, base: Any, name: str, value: Any) -> None:
        self._base = base
        setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def _at(base: Any, path: tuple[str, ...]) -> Any:
    """What is at the end of a path of attributes."""
    for name in path:
        base = getattr(base, name)
    return base


def _with(base: Any, path: tuple[str, ...], value: Any) -> Any:
    """The object, with another value at the end of a path of attributes."""
    name, *rest = path
    if rest:
        value = _with(getattr(base, name), tuple(rest), value)
    return _Overlay(base, name, value)
