"""Uses fine-tuned models: labels, numbers, tags, answers and vectors.

One folder is one model. Of the folder of a fine-tuning, the models of all seeds
answer together: with the mean of their probabilities.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, file_errors, files, options
from bert_pretrain.data import labelled_rows
from bert_pretrain.devices import distribution, distribution_config
from bert_pretrain.evaluation import scores
from bert_pretrain.finetuning import (
    kinds,
    learners,
    predict_config,
    task_evaluator,
)
from bert_pretrain.interchange import task_files, task_json
from bert_pretrain.tasks import examples, task, task_config

_ROWS = 16  # of a batch, on each replica


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a classifier says of texts."""

    labels: list[str]  # [N]
    label_ids: np.ndarray  # int [N]
    probabilities: np.ndarray  # float32 [N, C]
    classes: tuple[str, ...]  # the labels in the order of their ids


class Predictor:
    """One or several models of the same task."""

    def __init__(
        self,
        models: Sequence[task_files.FineTunedModel],
        strategy: tf.distribute.Strategy,
        dtype: tf.DType = tf.float32,
    ) -> None:
        """Takes the models; `load` reads them."""
        self.models = models
        self._strategy = strategy
        description = models[0].task
        self.task: task.Task = kinds.task_of(
            options.from_dict(task_config.TaskConfig, description.options),
            models[0].vocabulary,
            description.labels,
        )
        self._description = description
        self._collectors = [
            task_evaluator.OutputCollector(
                strategy,
                learners.OF_KIND[description.kind](
                    model.bert,
                    model.adapters,
                    learners.LossConfig(
                        pooling=description.pooling, metric=self.task.metric
                    ),
                ),
                dtype,
            )
            for model in models
        ]

    def outputs(self, given: Any) -> dict[str, np.ndarray]:
        """The models' mean outputs for examples (tasks/examples.py)."""
        pieces = self.task.encode(given, is_labelled=False)
        seq_length = self._description.max_seq_length
        layout = labelled_rows.Layout(
            seq_length=seq_length,
            num_slots=pieces.num_slots_of_row(seq_length),
            batch_size=_ROWS * self._strategy.num_replicas_in_sync,
        )
        batches, num_batches = labelled_rows.eval_batches(
            self._strategy, pieces, layout
        )
        of_models = [
            each.collect(batches, num_batches, pieces.num_outputs)
            for each in self._collectors
        ]
        return {
            name: scores.ensemble([each[name] for each in of_models])
            for name in of_models[0]
        }

    def predict_texts(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> Predictions:
        """Classifies texts, or pairs of texts.

        Raises:
          UserError: if the models do not classify.
        """
        self._check_kind("classification", "predict_texts")
        probabilities = self.outputs(_texts(texts, pairs))["probabilities"]
        label_ids = probabilities.argmax(axis=-1)
        return Predictions(
            [self.task.labels[i] for i in label_ids],
            label_ids,
            probabilities,
            self.task.labels,
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [N, H].

        Raises:
          UserError: if the models do not embed.
        """
        self._check_kind("embedding", "embed")
        return self.outputs(_texts(texts, None))["embeddings"]

    def _check_kind(self, kind: str, name: str) -> None:
        if self.task.kind != kind:
            raise errors.UserError(
                f"{name}: the model was fine-tuned for {self.task.kind}, and "
                f"this needs --task={kind}."
            )


def load(
    model_dir: str,
    strategy: tf.distribute.Strategy | None = None,
    dtype: tf.DType = tf.float32,
) -> Predictor:
    """Reads the model of a folder, or those of all seeds in it.

    Raises:
      UserError: if there is none, or vectors of several seeds are asked for,
        which have no mean.
    """
    strategy = strategy or distribution.build_strategy(
        distribution_config.DistributionConfig()
    )
    folders = _folders(model_dir)
    with strategy.scope():
        models = [task_files.read(folder) for folder in folders]
    if models[0].task.kind == "embedding" and models[1:]:
        raise errors.UserError(
            f"{model_dir}: the vectors of {len(models)} seeds have no mean; "
            f"give one of them, such as {folders[0]}."
        )
    return Predictor(models, strategy, dtype)


def _folders(model_dir: str) -> list[str]:
    with file_errors.naming(model_dir):
        if tf.io.gfile.exists(f"{model_dir}/{task_json.NAME}"):
            return [model_dir]
        found = tf.io.gfile.glob(f"{model_dir}/seed-*/{task_json.NAME}")
    if not found:
        raise errors.UserError(
            f"{model_dir}: no {task_json.NAME} here or in a seed-* folder; "
            "give a folder that bert_pretrain.finetune wrote."
        )
    return sorted(path.removesuffix(f"/{task_json.NAME}") for path in found)


def predict(config: predict_config.PredictConfig) -> int:
    """Writes what a model says of each example of a file.

    Returns:
      The number of examples.

    Raises:
      UserError: if the options, the file or the model are wrong.
    """
    strategy = distribution.build_strategy(config.devices)
    predictor = load(
        config.model_dir, strategy, distribution.compute_dtype(config.devices)
    )
    what = predictor.task
    if config.text_column or config.text_pair_column:
        what.config = dataclasses.replace(
            what.config,
            text_column=config.text_column or what.config.text_column,
            text_pair_column=config.text_pair_column
            or what.config.text_pair_column,
        )
    given = what.read(config.input_file, is_labelled=False, is_training=False)
    outputs = predictor.outputs(given)
    if config.output_file.endswith(".npy"):
        _write_vectors(config.output_file, what, outputs)
    else:
        files.write_json_lines(config.output_file, what.answers(given, outputs))
    return len(given)


def _write_vectors(
    path: str, what: task.Task, outputs: Mapping[str, np.ndarray]
) -> None:
    if what.kind != "embedding":
        raise errors.UserError(
            f"--output_file={path}: only embeddings are written as an array; "
            "give a name that ends with .jsonl."
        )
    content = io.BytesIO()
    np.save(content, outputs["embeddings"], allow_pickle=False)
    files.write_bytes(path, content.getvalue())


def _texts(
    texts: Sequence[str], pairs: Sequence[str] | None
) -> examples.TextExamples:
    return examples.TextExamples(
        path="texts",
        lines=list(range(1, len(texts) + 1)),
        texts=list(texts),
        pairs=None if pairs is None else list(pairs),
    )
