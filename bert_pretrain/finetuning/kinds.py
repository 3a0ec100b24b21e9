"""The kinds of tasks, by their names."""

from bert_pretrain.data import vocabulary
from bert_pretrain.tasks import (
    known_tasks,
    question_task,
    tagging_task,
    task,
    task_config,
    text_tasks,
)

_CLASSES: dict[str, type[task.Task]] = {
    each.kind: each
    for each in (
        text_tasks.Classification,
        text_tasks.Regression,
        text_tasks.Embedding,
        tagging_task.Tagging,
        question_task.QuestionAnswering,
    )
}


def task_of(
    config: task_config.TaskConfig,
    vocab: vocabulary.Vocabulary,
    labels: tuple[str, ...] = (),
) -> task.Task:
    """The task that options describe.

    Args:
      labels: that a model has learned.
    """
    known = known_tasks.KNOWN_TASKS.get(config.task)
    found = _CLASSES[known.kind if known else config.task](config, vocab)
    found.labels = labels
    return found
