"""The folder of a fine-tuned model: read and written.

    config.json, model.safetensors   the model, as HuggingFace's class for its
                                     task reads it
    vocab.txt, tokenizer.json, …     the tokenizer
    README.md                        the model card
    task.json                        what the model is for (task_json.py)

Three kinds have other files. A classifier of means or maxima is no class of
HuggingFace's: its folder is an encoder, a `BertModel`, with the classifier in
the same file and without a pooler, so that transformers warns who takes it for
a `BertForSequenceClassification`. Embeddings have the layout of
sentence-transformers (sentence_files.py). A model with adapters has only these
(adapter_files.py), and the folder of its base model is read too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import pretrained
from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import (
    adapter_files,
    model_card,
    model_folder,
    sentence_files,
    task_card,
    task_json,
    tokenizer_files,
)
from bert_pretrain.model import (
    adapters,
    bert_model,
    config_json,
    heads,
    model_config,
    weights,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTunedModel:
    """A model with the head of a task, and what it needs to label texts."""

    bert: transformers.TFPreTrainedModel
    adapters: adapters.Adapters  # without variables if there are none
    vocabulary: vocabulary.Vocabulary
    task: task_json.Task

    @property
    def view(self) -> Any:
        """The model as the forward pass and the heads are to see it."""
        return self.adapters.view(self.bert)


def write(
    model: FineTunedModel, folder: str, scores: Mapping[str, float]
) -> None:
    """Writes a fine-tuned model; one with adapters without its base model.

    Args:
      model: what to write.
      folder: local or gs://.
      scores: what it reaches on the development set, for the card.

    Raises:
      UserError: if the folder cannot be written.
    """
    bert, task = model.bert, model.task
    with model_folder.writing(folder) as temporary:
        tokenizer_files.write(model.vocabulary, task.max_seq_length, temporary)
        task_json.write(task, temporary)
        files.write_text(
            f"{temporary}/{model_card.FILE_NAME}",
            task_card.describe(task, bert, model.adapters, scores),
        )
        if model.adapters.variables:
            adapter_files.write(
                bert,
                model.adapters,
                task.pooling,
                task.plain_architecture,
                task.base_model,
                temporary,
            )
        else:
            _write_whole(model, temporary)


def _write_whole(model: FineTunedModel, folder: str) -> None:
    """Writes all weights and the config."""
    bert, task = model.bert, model.task
    if task.kind == "embedding":
        sentence_files.write(bert, task.pooling, task.max_seq_length, folder)
    else:
        weights.save_arrays(
            weights.arrays_of(heads.trained_variables(bert, task.pooling)),
            f"{folder}/{weights.FILE_NAME}",
        )
    fields = bert.config.to_dict() | {
        "architectures": [task.plain_architecture],
        # PyTorch does not train the embedding of this id.
        "pad_token_id": model.vocabulary.id(vocabulary.PAD),
    }
    transformers.BertConfig.from_dict(fields).save_pretrained(folder)


def read(folder: str) -> FineTunedModel:
    """Reads a folder that `write` wrote.

    Raises:
      UserError: if it is none, or its base model cannot be read.
    """
    task = task_json.read(folder)
    path = f"{folder}/{model_folder.ADAPTER_CONFIG_NAME}"
    with file_errors.naming(path):
        has_adapters = tf.io.gfile.exists(path)
    if has_adapters:
        base = pretrained.read(adapter_files.base_model_of(folder))
        bert = pretrained.with_head(base, task.with_head(base.config), seed=0)
        added = adapter_files.read(folder, bert, task.pooling)
    else:
        bert_config = config_json.read(f"{folder}/{config_json.NAME}")
        bert = bert_model.from_config(task.with_head(bert_config))
        added = adapters.build(bert, model_config.AdapterConfig(), seed=0)
        _load(bert, folder, task.pooling)
    return FineTunedModel(
        bert=bert,
        adapters=added,
        vocabulary=vocabulary.read(f"{folder}/{vocabulary.FILE_NAME}"),
        task=task,
    )


def _load(
    bert: transformers.TFPreTrainedModel, folder: str, pooling: heads.Pooling
) -> None:
    paths = weights.files_in(folder)
    if not paths:
        raise errors.UserError(
            f"{folder} holds no {weights.FILE_NAME}; fine-tune again."
        )
    missing = weights.assign(
        heads.trained_variables(bert, pooling), weights.read(paths), folder
    )
    if missing:
        raise errors.UserError(
            f"{folder} does not hold {', '.join(sorted(missing))}; fine-tune "
            "again."
        )
