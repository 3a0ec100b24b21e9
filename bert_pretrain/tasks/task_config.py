"""Options of a task: its kind, its columns, and how long its texts are."""

import dataclasses
from typing import Literal

from bert_pretrain import errors, options

# Kinds of tasks, and tasks whose files everybody knows (known_tasks.py).
KINDS = (
    "classification",
    "regression",
    "tagging",
    "question_answering",
    "embedding",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(options.Options):
    """The task: what is read of the files, and what a model says of it."""

    task: Literal[
        "classification",
        "regression",
        "tagging",
        "question_answering",
        "embedding",
        "cola",
        "sst2",
        "mrpc",
        "stsb",
        "qqp",
        "mnli",
        "qnli",
        "rte",
        "wnli",
        "ag_news",
    ] = options.option(
        "A kind of task, or the name of one whose files are read as they are: "
        "those of GLUE, and AG News.",
        "classification",
    )
    text_column: str = options.option(
        "The column of the text, by name, or by number if there is no header "
        "(0 is the first, -1 the last); several with commas are joined. "
        "Default: the task's own, else 'text'. For tagging: the words' column.",
        "",
    )
    text_pair_column: str = options.option(
        "The column of the second text, if a task is about two.", ""
    )
    label_column: str = options.option(
        "The column of the label. Default: the task's own, else 'label'; for "
        "tagging: the last column.",
        "",
    )
    max_seq_length: int = options.option(
        "Tokens of a text, and of a row; several short texts share a row. "
        "For longer texts see --long_texts; longer sentences and contexts are "
        "divided.",
        128,
        at_least=8,
        at_most=2**16,
    )
    long_texts: Literal["cut", "divide"] = options.option(
        "What becomes of texts longer than max_seq_length: cut: they lose "
        "their ends, and are counted; divide: they are read in parts of the "
        "same length, each learns the text's label, and the answer is the "
        "mean of the parts' answers. Pairs are always cut.",
        "cut",
    )
    document_stride: int | None = options.option(
        "Tokens that two windows of a long context share; default: a third of "
        "max_seq_length.",
        None,
        at_least=0,
    )
    pooling: Literal["auto", "cls", "mean", "max"] = options.option(
        "How the states of a text become one: that of [CLS], or the mean or "
        "the maximum of all. auto: cls if the pooler was pretrained, else "
        "mean.",
        "auto",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task != "question_answering":
            return
        if (self.document_stride or 0) >= self.max_seq_length:
            raise errors.UserError(
                f"--document_stride={self.document_stride} must be below "
                f"--max_seq_length={self.max_seq_length}, or windows do not "
                "move on."
            )
        if self.max_seq_length < 32:
            raise errors.UserError(
                f"--max_seq_length={self.max_seq_length} has no room for a "
                "question and its context; give at least 32."
            )
