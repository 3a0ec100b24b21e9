"""Exports a trained model as a HuggingFace checkpoint.

The weights are safetensors with PyTorch's names and layout, which every
version of transformers reads with PyTorch. TensorFlow's `from_pretrained` in
transformers 4.57 fails on such files, so tf_model.h5 has the same weights.
"""

import dataclasses

import transformers

from bert_pretrain import errors, files
from bert_pretrain.checkpoints import model_directory, trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import (
    export_config,
    model_card,
    model_folder,
    tokenizer_files,
)
from bert_pretrain.model import bert_model, weights


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
    if config.max_positions is not None:
        model = _with_positions(model, config.max_positions)
    num_positions = model.bert.config.max_position_embeddings
    if model.num_trained_positions < num_positions:
        errors.warn(
            f"{config.model_dir}: only positions up to "
            f"{model.num_trained_positions:,} of {num_positions:,} were "
            "trained; --max_positions="
            f"{model.num_trained_positions} leaves the others out."
        )
    card = model_card.describe(
        model, f"{config.model_dir}/{model_directory.LOG_NAME}"
    )
    write(model, config.output_dir, card, config.tensorflow_weights)
    return model


def write(
    model: trained_model.TrainedModel,
    output_dir: str,
    card: str,
    with_tensorflow: bool = True,
) -> None:
    """Writes the weights, the tokenizer, the config and the card of a model.

    Args:
      model: what to write.
      output_dir: the folder.
      card: the text of the README.
      with_tensorflow: whether to write tf_model.h5 too.

    Raises:
      UserError: if the folder cannot be written.
    """
    # PyTorch does not train the embedding of this id.
    model.bert.config.pad_token_id = model.vocabulary.id(vocabulary.PAD)
    with model_folder.writing(output_dir) as temporary:
        tokenizer_files.write(
            model.vocabulary,
            min(
                model.num_trained_positions,
                model.bert.config.max_position_embeddings,
            ),
            temporary,
        )
        weights.save(model.bert, f"{temporary}/{weights.FILE_NAME}")
        if with_tensorflow:
            model.bert.save_weights(
                f"{temporary}/{transformers.TF2_WEIGHTS_NAME}"
            )
        files.write_text(f"{temporary}/{model_card.FILE_NAME}", card)
        model.bert.config.save_pretrained(temporary)


def _with_positions(
    model: trained_model.TrainedModel, num_positions: int
) -> trained_model.TrainedModel:
    """The model with the first rows of its table of positions."""
    bert_config = model.bert.config
    if num_positions > bert_config.max_position_embeddings:
        raise errors.UserError(
            f"--max_positions={num_positions} exceeds the model's "
            f"{bert_config.max_position_embeddings} positions."
        )
    fields = bert_config.to_dict() | {"max_position_embeddings": num_positions}
    bert = bert_model.from_config(transformers.BertConfig.from_dict(fields))
    for old, new in zip(model.bert.weights, bert.weights, strict=True):
        new.assign(old[: new.shape[0]])
    return dataclasses.replace(model, bert=bert)
