"""The steps of others on the same rows, to be compiled beside ours.

huggingface  TFBertForMaskedLM as HuggingFace's language-modeling-tpu example
             trains it: scores at all positions, Keras's own train_step
official     tf-models-official's BertPretrainerV2 under its MaskedLMTask,
             which gathers the positions that are predicted

Both are traced under the same `TPUStrategy` as ours, metrics and all, sum
their gradients over the slice, have AdamW and clip to the same norm, and learn
to predict masked tokens alone, a document a row.
"""

import contextlib
import importlib.util
import sys
import types

import tensorflow as tf
import tf_keras
import transformers
from packaging import version

from bert_pretrain.compilation import training_step
from bert_pretrain.telemetry import console, mfu
from bert_pretrain.tpu import absent_tpu, device_program

NAMES = ("huggingface", "official")


def lower(
    name: str,
    bert_config: transformers.BertConfig,
    precision: str,
    rows: training_step.Rows,
    num_replicas: int,
) -> training_step.Step:
    """Traces and lowers a step of one of `NAMES`.

    Args:
      num_replicas: of the slice, over which the gradients are summed.
    """
    console.quiet_libraries()
    strategy = absent_tpu.AbsentTPUStrategy(num_replicas, only_first=True)
    build = {"huggingface": _huggingface, "official": _official}[name]
    with _policy(precision):
        with strategy.scope():
            bert, adam, function, batch = build(bert_config, rows)
        program = device_program.of_run(strategy, function, (batch,))
    return training_step.Step(
        hlo=program.hlo,
        model=type(bert).__name__,
        variable_bytes=training_step.num_bytes(bert.variables),
        optimizer_bytes=training_step.num_bytes(adam.variables()),
        useful_flops=rows.num_rows
        * mfu.flops_per_example(
            bert_config, rows.seq_length, rows.num_predictions, False
        ),
    )


@contextlib.contextmanager
def _policy(precision):
    """Keras's own way to say what products are computed in."""
    before = tf_keras.mixed_precision.global_policy()
    if precision == "bfloat16":
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def _huggingface(bert_config, rows):
    bert = transformers.TFBertForMaskedLM(bert_config)
    adam, _ = transformers.create_optimizer(
        init_lr=1e-4,
        num_train_steps=100_000,
        num_warmup_steps=5_000,
        weight_decay_rate=0.01,
        adam_global_clipnorm=1.0,
    )
    bert.compile(optimizer=adam, metrics=["accuracy"])
    bert.build_in_name_scope()
    adam._create_all_weights(bert.trainable_variables)
    spec = tf.TensorSpec([rows.num_rows, rows.seq_length], tf.int32)
    names = "input_ids", "attention_mask", "token_type_ids", "labels"
    return bert, adam, bert.train_step, dict.fromkeys(names, spec)


def _official(bert_config, rows):
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
    pretrainer = task.build_model()
    adam = task.create_optimizer(
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
    adam._create_all_weights(pretrainer.trainable_variables)
    metrics = task.build_metrics()
    tokens = tf.TensorSpec([rows.num_rows, rows.seq_length], tf.int32)
    slots = [rows.num_rows, rows.num_predictions]
    batch = {
        "input_word_ids": tokens,
        "input_mask": tokens,
        "input_type_ids": tokens,
        "masked_lm_positions": tf.TensorSpec(slots, tf.int32),
        "masked_lm_ids": tf.TensorSpec(slots, tf.int32),
        "masked_lm_weights": tf.TensorSpec(slots, tf.float32),
    }

    def train_step(batch):
        return task.train_step(batch, pretrainer, adam, metrics)

    return pretrainer, adam, train_step, batch


@contextlib.contextmanager
def _stand_in_for_pkg_resources():
    """Gives tensorflow_hub the one name it uses, gone since setuptools 82.

    For as long as it is imported: others would take it for the whole.
    """
    if importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    module = types.ModuleType("pkg_resources")
    module.parse_version = version.parse
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
