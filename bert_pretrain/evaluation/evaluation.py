"""Evaluates a trained model on held-out records."""

import dataclasses
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.checkpoints import model_directory, trained_model
from bert_pretrain.data import (
    input_pipeline,
    manifests,
    records,
    vocabulary,
)
from bert_pretrain.devices import distribution, pod
from bert_pretrain.evaluation import evaluation_config, evaluator
from bert_pretrain.model import bert_model, objectives
from bert_pretrain.telemetry import console, memory

_SPLITS = {"validation": records.EVAL, "test": records.TEST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """The results of an evaluation of one split."""

    metrics: dict[str, float]  # by name, such as "masked_lm_loss" (nats)
    unigram_entropy: float  # see `evaluator.unigram_entropy`
    num_examples: int  # of the split
    num_predictions: int  # masked tokens of the split
    step: int  # of the checkpoint
    seconds: float  # of the evaluation and of `unigram_entropy`
    peak_memory_bytes: int  # of this process

    def to_dict(self) -> dict[str, Any]:
        """The results as evaluate_results.json holds them, in one level."""
        values = dict(vars(self))
        return {**values.pop("metrics"), **values}


def evaluate(config: evaluation_config.EvaluateConfig) -> EvaluationResults:
    """Evaluates a checkpoint on a split.

    Also writes the results to evaluate_results.json in the model directory,
    beside the results of the other split.

    Raises:
      UserError: if there is no checkpoint, the split has no examples, or the
        dataset does not fit the model.
      Interrupted: if a worker of a pod is lost.
    """
    with pod.naming_losses():
        return _evaluate(config)


def _evaluate(config: evaluation_config.EvaluateConfig) -> EvaluationResults:
    manifest = manifests.read(config.data_dir)
    manifests.check_dataset(config.data_dir, manifest)
    split = _SPLITS[config.split]
    if not manifest.splits[split].num_examples:
        raise errors.UserError(
            f"{config.data_dir}: the {config.split} split holds no example; "
            f"build the dataset with a larger --{split}_fraction."
        )
    strategy = distribution.build_strategy(config.devices)
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        console.swallow_first_compilation()
    distribution.check_batch(
        config.global_batch_size, strategy.num_replicas_in_sync
    )
    pod.check_files(strategy, [config.data_dir], config.model_dir)
    with strategy.scope():
        model = trained_model.restore(config.model_dir, config.checkpoint)
    _check_fit(config.data_dir, manifest, model)
    if not model.is_good:
        errors.warn(
            f"{config.model_dir}: when step {model.step:,} was saved, its "
            "held-out loss or weights were not finite."
        )
    results = _measure(config, manifest, split, strategy, model)
    path = f"{config.model_dir}/{model_directory.EVALUATE_RESULTS_NAME}"
    earlier = files.read_json(path) if tf.io.gfile.exists(path) else {}
    files.write_json(path, {**earlier, config.split: results.to_dict()})
    return results


def _check_fit(
    data_dir: str,
    manifest: manifests.Manifest,
    model: trained_model.TrainedModel,
) -> None:
    """Checks that the model can be evaluated on the dataset."""
    vocabulary.check_same(
        data_dir,
        manifest.vocab_sha256,
        model.vocabulary.sha256,
        expected_by="the model",
        remedy="evaluate on records with the model's vocabulary",
    )
    positions = model.bert.config.max_position_embeddings
    if manifest.seq_length > positions:
        raise errors.UserError(
            f"{data_dir}: seq_length {manifest.seq_length} exceeds the "
            f"model's {positions} positions; build the records with a smaller "
            "--seq_length."
        )
    if bert_model.has_pairs(model.bert) and manifest.pairing == "none":
        raise errors.UserError(
            f"{data_dir}: pairing 'none', but the model was trained on "
            "sentence pairs; build the records with --pairing=nsp."
        )


def _measure(
    config: evaluation_config.EvaluateConfig,
    manifest: manifests.Manifest,
    split: str,
    strategy: tf.distribute.Strategy,
    model: trained_model.TrainedModel,
) -> EvaluationResults:
    batches, num_steps = input_pipeline.eval_batches(
        strategy, config.data_dir, manifest, split, config.global_batch_size
    )
    with strategy.scope():
        bert_evaluator = evaluator.Evaluator(
            objectives.Pretraining(model.bert),
            batches,
            dtype=distribution.compute_dtype(config.devices),
        )
    watch = console.Stopwatch()
    with input_pipeline.naming_failures(config.data_dir, manifest):
        output = bert_evaluator.evaluate(tf.constant(num_steps, tf.int32))
    counts = manifest.splits[split]
    return EvaluationResults(
        metrics={name: float(value) for name, value in output.items()},
        unigram_entropy=evaluator.unigram_entropy(
            input_pipeline.host_batches(config.data_dir, manifest, split),
            manifest.vocab_size,
        ),
        num_examples=counts.num_examples,
        num_predictions=counts.num_predictions,
        step=model.step,
        seconds=round(watch.seconds, 3),
        peak_memory_bytes=memory.peak_memory_bytes(),
    )
