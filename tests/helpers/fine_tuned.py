"""Small fine-tuned models, and what our forward pass computes with them."""

import numpy as np
import tensorflow as tf
import transformers

from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import task_files, task_json
from bert_pretrain.model import (
    adapters,
    bert_model,
    encoder,
    heads,
    model_config,
)

VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *"the cat ##s dog sat ran big . ,".split()),
    is_lower_case=True,
)
LABELS = ("no", "yes", "both")
TASKS = {
    "classification": task_json.Task(
        kind="classification", max_seq_length=20, labels=LABELS
    ),
    "regression": task_json.Task(kind="regression", max_seq_length=20),
    "tagging": task_json.Task(kind="tagging", max_seq_length=20, labels=LABELS),
    "question_answering": task_json.Task(
        kind="question_answering", max_seq_length=20
    ),
    "embedding": task_json.Task(kind="embedding", max_seq_length=20),
}


def architecture(**options):
    """One small layer."""
    return transformers.BertConfig(
        **{
            "vocab_size": VOCAB.size,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 40,
            **options,
        }
    )


def spread(variables, seed=2):
    """Sets variables to random values, none of which is near its default."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))


def model_of(task):
    """A model of a task, without adapters."""
    bert = bert_model.from_config(task.with_head(architecture()))
    spread(bert.weights)
    return plain(bert, task)


def plain(bert, task):
    return task_files.FineTunedModel(
        bert=bert,
        adapters=adapters.build(bert, model_config.AdapterConfig(), seed=0),
        vocabulary=VOCAB,
        task=task,
    )


def batch_of():
    """Three rows of 20, 9 and 2 tokens, some of the second segment."""
    mask = np.arange(20) < np.array([[20], [9], [2]])
    batch = {
        "input_ids": np.random.default_rng(3).integers(5, VOCAB.size, [3, 20]),
        "attention_mask": mask,
        "token_type_ids": mask & (np.arange(20) > 5),
    }
    return with_slots({name: tf.constant(v) for name, v in batch.items()})


def with_slots(batch):
    """The batch of a tokenizer, with one document in each row."""
    slots_B1 = tf.ones_like(batch["input_ids"][:, :1])
    batch = {
        **batch,
        "label_positions": tf.zeros_like(slots_B1),
        "slot_documents": slots_B1,
    }
    return {name: tf.cast(value, tf.int32) for name, value in batch.items()}


def outputs_of(model, batch):
    """The logits of a task, or the embeddings: [B, …]."""
    view, task = model.view, model.task
    if task.kind in ("classification", "regression", "embedding"):
        output_BPX = heads.pooled(view, batch, task.pooling, tf.float32)
        if task.kind != "embedding":
            output_BPX = heads.classification_logits(
                view, output_BPX, task.pooling
            )
        return output_BPX[:, 0].numpy()
    states_BSH = encoder.encode(view, batch, tf.float32)
    if task.kind == "tagging":
        return heads.tagging_logits(view, states_BSH).numpy()
    return tf.stack(heads.span_logits(view, states_BSH), axis=-1).numpy()


def outputs_in_pytorch(bert, batch):
    """The same of a model of transformers, which computes with PyTorch."""
    import torch

    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        output = bert.eval()(
            **{n: torch.tensor(batch[n].numpy().astype(int)) for n in names}
        )
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1).numpy()
    if "logits" in output:
        return output.logits.numpy()
    return output.last_hidden_state[:, 0].numpy()
