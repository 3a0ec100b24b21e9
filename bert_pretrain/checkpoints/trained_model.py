"""A trained model, read from a model directory without its optimizer."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import checkpoint_files, model_directory
from bert_pretrain.data import vocabulary
from bert_pretrain.model import bert_model, config_json


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model and its vocabulary."""

    bert: transformers.TFPreTrainedModel
    vocabulary: vocabulary.Vocabulary
    step: int
    is_good: bool  # see `checkpoint_saver.Saver.save`
    train_config: dict[str, Any]  # the options of the run

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """What it has learned from up to its step, phase by phase.

        Empty if an earlier version of the trainer did not note it.
        """
        return [
            dataset
            for dataset in self.train_config.get(
                model_directory.DATASETS_NAME, []
            )
            if dataset["from_step"] < max(1, self.step)
        ]

    @property
    def num_trained_positions(self) -> int:
        """So many positions have embeddings that were trained, or computed."""
        num_positions = self.bert.config.max_position_embeddings
        architecture = self.train_config.get("architecture", {})
        # The weights of another model were trained before.
        is_known = architecture.get("init_from") or (
            architecture.get("positions", "learned") != "learned"
        )
        if is_known or not self.datasets:
            return num_positions
        return max(dataset["seq_length"] for dataset in self.datasets)


def restore(
    model_dir: str, which: str = model_directory.NEWEST
) -> TrainedModel:
    """Reads the model of a checkpoint.

    Args:
      model_dir: the folder of the run.
      which: "newest" or "best", the checkpoint to read.

    Raises:
      UserError: if there is no checkpoint, or it cannot be read.
    """
    folder = (
        f"{model_dir}/{model_directory.BEST}"
        if which == model_directory.BEST
        else model_dir
    )
    with file_errors.naming(model_dir):
        found = list(checkpoint_files.list_whole(folder, warn=True))
    if not found:
        raise errors.UserError(
            f"{folder} holds no checkpoint; run bert_pretrain.train "
            f"--model_dir={model_dir} first."
        )
    path = f"{model_dir}/{config_json.NAME}"
    bert_config = config_json.read(path)
    bert_config.architectures = files.read_json(path)["architectures"]
    bert = bert_model.from_config(bert_config)
    facts = _restore_weights(bert, found)
    return TrainedModel(
        bert=bert,
        step=facts["step"],
        is_good=facts.get("is_good", True),
        vocabulary=vocabulary.read(f"{model_dir}/{vocabulary.FILE_NAME}"),
        train_config=files.read_json(
            f"{model_dir}/{model_directory.TRAIN_CONFIG_NAME}"
        ),
    )


def _restore_weights(
    bert: transformers.TFPreTrainedModel,
    found: Sequence[tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    """Sets the variables from the first checkpoint that can be read.

    Args:
      found: from `checkpoint_files.list_whole`, at least one.

    Returns:
      The content of this checkpoint's JSON file.
    """
    failures = []
    for path, facts in found:
        try:
            with checkpoint_files.reading(path):
                tf.train.Checkpoint(model=bert).restore(
                    path
                ).assert_existing_objects_matched().expect_partial()
            return facts
        except errors.UserError as error:
            errors.warn(error)
            failures.append(error)
    raise failures[-1]
