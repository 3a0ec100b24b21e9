"""Exports a trained model as a HuggingFace checkpoint.

The weights are safetensors with PyTorch's names and layout, which every
version of transformers reads.
"""

import os
import tempfile

import tensorflow as tf
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import export_config, trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.model import config_json, weights


def export(config: export_config.ExportConfig) -> trained_model.TrainedModel:
    """Exports a checkpoint of a model directory.

    Returns:
      The model that was exported.

    Raises:
      UserError: if there is no checkpoint, if its model is of no use, or if
        the folder cannot be written.
    """
    model = trained_model.restore(config.model_dir, config.checkpoint)
    if not model.is_good or not weights.are_finite(model.bert):
        raise errors.UserError(
            f"{config.model_dir}: the checkpoint of step {model.step:,} is not "
            "exported, because its held-out loss or weights are not finite; "
            "export an earlier one with --checkpoint=best, or train again with "
            "a lower --peak_learning_rate."
        )
    write(model, config.output_dir)
    return model


def write(model: trained_model.TrainedModel, output_dir: str) -> None:
    """Writes the weights, the tokenizer and the config of a model.

    The config is written last, because it makes the folder a model.

    Raises:
      UserError: if the folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        _save_tokenizer(model, temporary)
        weights.save(model.bert, f"{temporary}/{weights.FILE_NAME}")
        model.bert.config.save_pretrained(temporary)
        names = sorted(
            os.listdir(temporary),
            key=lambda name: (name == config_json.NAME, name),
        )
        for name in names:
            _copy(f"{temporary}/{name}", f"{output_dir}/{name}")


def _save_tokenizer(model: trained_model.TrainedModel, folder: str) -> None:
    vocab_path = f"{folder}/{vocabulary.FILE_NAME}"
    model.vocabulary.write(vocab_path)
    is_lower_case = model.vocabulary.is_lower_case
    transformers.BertTokenizerFast(
        vocab_file=vocab_path,
        do_lower_case=is_lower_case,
        # A cased vocabulary has tokens with accents. The default might strip
        # the accents of the text.
        strip_accents=is_lower_case,
        model_max_length=model.bert.config.max_position_embeddings,
    ).save_pretrained(folder)


def _copy(source: str, target: str) -> None:
    with files.replacing(target) as temporary, file_errors.naming(target):
        tf.io.gfile.copy(source, temporary)
