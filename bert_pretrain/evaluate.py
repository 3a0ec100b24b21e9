"""Evaluates a trained model on held-out records.

python -m bert_pretrain.evaluate --data_dir=… --model_dir=… --split=test
"""

import contextlib
import dataclasses
import sys
from typing import Literal

import orbit
import tensorflow as tf

from bert_pretrain import distribution, errors, files, options
from bert_pretrain.checkpoints import model_directory, trained_model
from bert_pretrain.data import input_pipeline, manifests, records, vocabulary
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import console, memory
from bert_pretrain.training import evaluator

_SPLITS = {"validation": records.EVAL, "test": records.TEST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(options.Options):
    """An evaluation."""

    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it."
    )
    model_dir: str = options.option("Folder that bert_pretrain.train wrote.")
    split: Literal["validation", "test"] = options.option(
        "Which held-out documents.", "validation"
    )
    checkpoint: Literal["newest", "best"] = options.option(
        "Which one: best is that of the least held-out loss.", "newest"
    )
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 64, at_least=1
    )
    devices: distribution.DistributionConfig = distribution.DistributionConfig()


def evaluate(config):
    """Prints and writes what a checkpoint reaches."""
    console.quiet_libraries()
    manifest = manifests.read(config.data_dir)
    manifests.check_dataset(config.data_dir, manifest)
    split = _SPLITS[config.split]
    if not manifest.splits[split].num_examples:
        raise errors.UserError(
            f"{config.data_dir}: the {config.split} split holds no example; "
            f"build the set with a larger --{split}_fraction."
        )
    strategy = distribution.build_strategy(config.devices)
    distribution.check_batch(
        config.global_batch_size, strategy.num_replicas_in_sync
    )
    with strategy.scope():
        restored = trained_model.restore(config.model_dir, config.checkpoint)
    _check_fit(config, manifest, restored)
    results = _evaluate(config, manifest, split, strategy, restored)
    path = f"{config.model_dir}/{model_directory.EVALUATE_RESULTS_NAME}"
    earlier = files.read_json(path) if tf.io.gfile.exists(path) else {}
    files.write_json(path, {**earlier, config.split: results})
    console.print_table(
        f"{config.model_dir}, step {results['step']:,}, on {config.split}",
        [
            (
                name,
                f"{value:,.4f}" if isinstance(value, float) else f"{value:,}",
            )
            for name, value in results.items()
        ],
        sys.stdout,
    )


def _check_fit(config, manifest, restored):
    vocabulary.check_same(
        config.data_dir,
        manifest.vocab_sha256,
        restored.vocabulary.sha256,
        expected_by="the model",
        remedy="evaluate on records with the model's vocabulary",
    )
    positions = restored.bert.config.max_position_embeddings
    if manifest.seq_length > positions:
        raise errors.UserError(
            f"{config.data_dir}: seq_length {manifest.seq_length} exceeds the "
            f"model's {positions} positions; build shorter rows."
        )
    if bert_model.has_pairs(restored.bert) and manifest.pairing == "none":
        raise errors.UserError(
            f"{config.data_dir}: pairing 'none', but the model was trained on "
            "sentence pairs; build the records with --pairing=nsp."
        )


def _evaluate(config, manifest, split, strategy, restored):
    dtype = distribution.compute_dtype(config.devices)
    batches, num_steps = input_pipeline.eval_batches(
        strategy, config.data_dir, manifest, split, config.global_batch_size
    )
    with strategy.scope():
        bert_evaluator = evaluator.Evaluator(
            restored.bert, batches, dtype=dtype
        )
    controller = orbit.Controller(
        strategy=strategy,
        evaluator=bert_evaluator,
        global_step=tf.Variable(restored.step, dtype=tf.int64),
    )
    watch = console.Stopwatch()
    with (
        input_pipeline.naming_failures(config.data_dir, manifest),
        contextlib.redirect_stdout(None),
    ):
        output = controller.evaluate(num_steps)
    counts = manifest.splits[split]
    return {
        **{
            name: float(value)
            for name, value in output.items()
            if name != "steps_per_second"
        },
        "unigram_entropy": evaluator.unigram_entropy(
            input_pipeline.host_batches(config.data_dir, manifest, split),
            manifest.vocab_size,
        ),
        "num_examples": counts.num_examples,
        "num_predictions": counts.num_predictions,
        "step": restored.step,
        "seconds": round(watch.seconds, 3),
        "peak_memory_bytes": memory.peak_memory_bytes(),
    }


if __name__ == "__main__":
    options.run(evaluate, Config)
