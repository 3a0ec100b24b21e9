"""Steps of other implementations on the same batches, to compare with ours.

huggingface  TFBertForMaskedLM as HuggingFace's language-modeling-tpu example
             trains it: scores at all positions, Keras's own train_step
official     tf-models-official's BertPretrainerV2 under its MaskedLMTask,
             which gathers the predicted positions

Both have their metrics, use AdamW, clip to the same norm, and learn to predict
masked tokens only, one document per row. For the compiler they are traced under
the same `TPUStrategy` as ours, and sum their gradients over the slice.
"""

import contextlib
import dataclasses
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
import transformers
from packaging import version

from bert_pretrain.compilation import training_step
from bert_pretrain.telemetry import accelerators, console
from bert_pretrain.tpu import absent_tpu, device_program

NAMES = ("huggingface", "official")


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer's model with its step, which takes a batch of its features."""

    model: tf_keras.Model
    optimizer: tf_keras.optimizers.Optimizer
    train_step: Callable[[dict[str, tf.Tensor]], Any]


def lower(
    name: str,
    bert_config: transformers.BertConfig,
    precision: str,
    batch: training_step.BatchShape,
    num_replicas: int,
) -> training_step.Step:
    """Traces and lowers the step of a peer.

    Args:
      name: one of `NAMES`.
      num_replicas: of the slice; the gradients are summed over them.
    """
    console.quiet_libraries()
    strategy = absent_tpu.AbsentTPUStrategy(num_replicas, only_first=True)
    with _policy(precision):
        with strategy.scope():
            peer = build(name, bert_config)
        program = device_program.of_run(
            strategy, peer.train_step, (_feature_specs(name, batch),)
        )
    return training_step.Step(
        hlo=program.hlo,
        model=type(peer.model).__name__,
        variable_bytes=training_step.num_bytes(peer.model.variables),
        optimizer_bytes=training_step.num_bytes(peer.optimizer.variables()),
        useful_flops=batch.num_rows
        * accelerators.flops_per_example(
            bert_config, batch.seq_length, batch.num_predictions, False
        ),
    )


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Sets Keras's own policy for the precision of matrix products."""
    before = tf_keras.mixed_precision.global_policy()
    if precision == "bfloat16":
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def build(name: str, bert_config: transformers.BertConfig) -> Peer:
    """Builds a peer; call it in the strategy's scope.

    Keras's global policy decides the precision of the matrix products.

    Args:
      name: one of `NAMES`.
    """
    peer = {"huggingface": _huggingface, "official": _official}[name](
        bert_config
    )
    peer.optimizer._create_all_weights(peer.model.trainable_variables)
    return peer


def _huggingface(bert_config: transformers.BertConfig) -> Peer:
    bert = transformers.TFBertForMaskedLM(bert_config)
    optimizer, _ = transformers.create_optimizer(
        init_lr=1e-4,
        num_train_steps=100_000,
        num_warmup_steps=5_000,
        weight_decay_rate=0.01,
        adam_global_clipnorm=1.0,
    )
    bert.compile(optimizer=optimizer, metrics=["accuracy"])
    bert.build_in_name_scope()
    return Peer(bert, optimizer, bert.train_step)


def _official(bert_config: transformers.BertConfig) -> Peer:
    with _stand_in_for_pkg_resources():
        from official.nlp.tasks import masked_lm

    task = masked_lm.MaskedLMTask(_official_config(bert_config))
    optimizer = task.create_optimizer(_official_optimization())
    pretrainer = task.build_model()
    metrics = task.build_metrics()

    def train_step(inputs):
        return task.train_step(inputs, pretrainer, optimizer, metrics)

    return Peer(pretrainer, optimizer, train_step)


def _official_config(bert_config: transformers.BertConfig) -> Any:
    """The `MaskedLMConfig` of this architecture."""
    with _stand_in_for_pkg_resources():
        from official.nlp.configs import bert, encoders
        from official.nlp.data import pretrain_dataloader
        from official.nlp.tasks import masked_lm

    encoder = encoders.BertEncoderConfig(
        vocab_size=bert_config.vocab_size,
        hidden_size=bert_config.hidden_size,
        num_layers=bert_config.num_hidden_layers,
        num_attention_heads=bert_config.num_attention_heads,
        intermediate_size=bert_config.intermediate_size,
        dropout_rate=bert_config.hidden_dropout_prob,
        attention_dropout_rate=bert_config.attention_probs_dropout_prob,
        max_position_embeddings=bert_config.max_position_embeddings,
    )
    return masked_lm.MaskedLMConfig(
        model=bert.PretrainerConfig(
            encoder=encoders.EncoderConfig(bert=encoder)
        ),
        train_data=pretrain_dataloader.BertPretrainDataConfig(
            use_next_sentence_label=False
        ),
        scale_loss=True,
    )


def _official_optimization() -> Any:
    """The `OptimizationConfig` of AdamW with a warmup and a decay."""
    from official.modeling import optimization

    return optimization.OptimizationConfig(
        {
            "optimizer": {
                "type": "adamw",
                "adamw": {
                    "weight_decay_rate": 0.01,
                    "exclude_from_weight_decay": [
                        "LayerNorm",
                        "layer_norm",
                        "bias",
                    ],
                },
            },
            "learning_rate": {
                "type": "polynomial",
                "polynomial": {
                    "initial_learning_rate": 1e-4,
                    "decay_steps": 100_000,
                },
            },
            "warmup": {"type": "linear", "linear": {"warmup_steps": 10}},
        }
    )


def _feature_specs(
    name: str, batch: training_step.BatchShape
) -> dict[str, tf.TensorSpec]:
    """The features of a peer's batch."""
    tokens = tf.TensorSpec([batch.num_rows, batch.seq_length], tf.int32)
    if name == "huggingface":
        names = "input_ids", "attention_mask", "token_type_ids", "labels"
        return dict.fromkeys(names, tokens)
    slots = [batch.num_rows, batch.num_predictions]
    return {
        "input_word_ids": tokens,
        "input_mask": tokens,
        "input_type_ids": tokens,
        "masked_lm_positions": tf.TensorSpec(slots, tf.int32),
        "masked_lm_ids": tf.TensorSpec(slots, tf.int32),
        "masked_lm_weights": tf.TensorSpec(slots, tf.float32),
    }


@contextlib.contextmanager
def _stand_in_for_pkg_resources() -> Iterator[None]:
    """Gives tensorflow_hub the one name of pkg_resources that it imports.

    setuptools 82 has removed pkg_resources. The stand-in exists only during
    this import; other libraries would take it for the whole module.
    """
    if importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    module = types.ModuleType("pkg_resources")
    vars(module)["parse_version"] = version.parse
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
