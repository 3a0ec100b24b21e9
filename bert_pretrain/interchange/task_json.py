"""task.json: what a fine-tuned model is for."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import tensorflow as tf
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.model import heads

NAME = "task.json"

Kind = Literal[
    "classification",
    "regression",
    "tagging",
    "question_answering",
    "embedding",
]
# PyTorch's classes, which have the same names as TensorFlow's without "TF".
_ARCHITECTURES = {
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "embedding": "BertModel",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a model was fine-tuned for, as task.json has it."""

    kind: Kind
    pooling: heads.Pooling = "cls"
    max_seq_length: int
    labels: tuple[str, ...] = ()  # in the order of their ids
    # Of tasks/task_config.py, by their names.
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    base_model: str = ""  # the folder that the weights began with

    @property
    def is_stock(self) -> bool:
        """Whether HuggingFace has a class that computes the whole model."""
        is_classifier = self.kind in ("classification", "regression")
        return not is_classifier or self.pooling == "cls"

    @property
    def plain_architecture(self) -> str:
        """PyTorch's class that computes the model, or else its encoder."""
        return _ARCHITECTURES[self.kind] if self.is_stock else "BertModel"

    def with_head(
        self, bert_config: transformers.BertConfig
    ) -> transformers.BertConfig:
        """An architecture with the head of this task.

        Returns:
          A config whose `architectures` name the class that has the variables.
        """
        fields = bert_config.to_dict() | {
            "architectures": [_ARCHITECTURES[self.kind]]
        }
        labels = self.labels
        if self.kind == "regression":
            labels = ("score",)
            fields["problem_type"] = "regression"
        if labels:
            fields["id2label"] = dict(enumerate(labels))
            fields["label2id"] = {n: i for i, n in enumerate(labels)}
        return transformers.BertConfig.from_dict(fields)


def read(folder: str) -> Task:
    """Reads what the model in a folder is for.

    Raises:
      UserError: if the folder holds no fine-tuned model.
    """
    path = f"{folder}/{NAME}"
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path):
            raise errors.UserError(
                f"{folder} holds no {NAME}; give a folder that "
                "bert_pretrain.finetune wrote."
            )
    values = files.read_json(path)
    try:
        task = Task(**values | {"labels": tuple(values["labels"])})
        is_ours = (
            task.kind in get_args(Kind)
            and task.pooling in get_args(heads.Pooling)
            and isinstance(task.max_seq_length, int)
        )
    except (TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise errors.UserError(
            f"{path}: not as bert_pretrain.finetune writes it; restore it, or "
            "fine-tune again."
        )
    return task


def write(task: Task, folder: str) -> None:
    """Writes the file into a folder."""
    files.write_json(f"{folder}/{NAME}", dataclasses.asdict(task))
