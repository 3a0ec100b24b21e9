"""Steps of other implementations on the same batches, to compare with ours.

huggingface  TFBertForMaskedLM as HuggingFace's language-modeling-tpu example
             trains it: scores at all positions, Keras's own train_step
official     tf-models-official's BertPretrainerV2 under its MaskedLMTask,
             which gathers the predicted positions

Both are traced under the same `TPUStrategy` as ours, with their metrics. They
sum their gradients over the slice, use AdamW, clip to the same norm, and learn
to predict masked tokens only, one document per row.
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
class _Peer:
    """A peer's model with its step."""

    model: tf_keras.Model
    optimizer: tf_keras.optimizers.Optimizer
    train_step: Callable[[dict[str, tf.Tensor]], Any]
    batch: dict[str, tf.TensorSpec]


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
    build = {"huggingface": _huggingface, "official": _official}[name]
    with _policy(precision):
        with strategy.scope():
            peer = build(bert_config, batch)
        program = device_program.of_run(
            strategy, peer.train_step, (peer.batch,)
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


def _huggingface(
    bert_config: transformers.BertConfig, batch: training_step.BatchShape
) -> _Peer:
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
    optimizer._create_all_weights(bert.trainable_variables)
    spec = tf.TensorSpec([batch.num_rows, batch.seq_length], tf.int32)
    names = "input_ids", "attention_mask", "token_type_ids", "labels"
    return _Peer(bert, optimizer, bert.train_step, dict.fromkeys(names, spec))


def _official(
    bert_config: transformers.BertConfig, batch: training_step.BatchShape
) -> _Peer:
    task, optimizer = _official_task(bert_config)
    pretrainer = task.build_model()
    optimizer._create_all_weights(pretrainer.trainable_variables)
    metrics = task.build_metrics()
    tokens = tf.TensorSpec([batch.num_rows, batch.seq_length], tf.int32)
    slots = [batch.num_rows, batch.num_predictions]
    features = {
        "input_word_ids": tokens,
        "input_mask": tokens,
        "input_type_ids": tokens,
        "masked_lm_positions": tf.TensorSpec(slots, tf.int32),
        "masked_lm_ids": tf.TensorSpec(slots, tf.int32),
        "masked_lm_weights": tf.TensorSpec(slots, tf.float32),
    }

    def train_step(inputs):
        return task.train_step(inputs, pretrainer, optimizer, metrics)

    return _Peer(pretrainer, optimizer, train_step, features)


def _official_task(
    bert_config: transformers.BertConfig,
) -> tuple[Any, tf_keras.optimizers.Optimizer]:
    """A `MaskedLMTask` and its optimizer."""
    with _stand_in_for_pkg_resources():
        from official.modeling import optimization
        from official.nlp.configs import bert, encoders
        from official.nlp.data import pretrain_dataloader
        from official.nlp.tasks import masked_lm

    task = masked_lm.MaskedLMTask(
        masked_lm.MaskedLMConfig(
            model=bert.PretrainerConfig(
                encoder=encoders.EncoderConfig(
                    bert=encoders.BertEncoderConfig(
                        vocab_size=bert_config.vocab_size,
                        hidden_size=bert_config.hidden_size,
                        num_layers=bert_config.num_hidden_layers,
                        num_attention_heads=bert_config.num_attention_heads,
                        intermediate_size=bert_config.intermediate_size,
                        dropout_rate=bert_config.hidden_dropout_prob,
                        attention_dropout_rate=(
                            bert_config.attention_probs_dropout_prob
                        ),
                        max_position_embeddings=(
                            bert_config.max_position_embeddings
                        ),
                    )
                )
            ),
            train_data=pretrain_dataloader.BertPretrainDataConfig(
                use_next_sentence_label=False
            ),
            scale_loss=True,
        )
    )
    optimizer = task.create_optimizer(
        optimization.OptimizationConfig(
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
    )
    return task, optimizer


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
