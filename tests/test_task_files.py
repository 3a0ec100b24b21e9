"""Folders of fine-tuned models: read back, and read by transformers."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors
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
TASKS = {
    "classification": task_json.Task(
        kind="classification", max_seq_length=20, labels=("no", "yes", "both")
    ),
    "regression": task_json.Task(kind="regression", max_seq_length=20),
    "tagging": task_json.Task(
        kind="tagging", max_seq_length=20, labels=("O", "B-PER", "I-PER")
    ),
    "question_answering": task_json.Task(
        kind="question_answering", max_seq_length=20
    ),
}


def fine_tuned(task, config=None):
    """A model with random weights, none of them near its default."""
    tf_keras.utils.set_random_seed(1)
    bert = bert_model.from_config(
        task.with_head(
            transformers.BertConfig(
                vocab_size=VOCAB.size,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=40,
            )
        )
    )
    added = adapters.build(bert, config or model_config.AdapterConfig(), seed=1)
    rng = np.random.default_rng(2)
    for variable in (*bert.weights, *added.variables):
        variable.assign(rng.normal(0, 0.2, variable.shape))
    return task_files.FineTunedModel(
        bert=bert, adapters=added, vocabulary=VOCAB, task=task
    )


def batch_of():
    mask = np.arange(20) < np.array([[20], [9], [2]])
    batch = {
        "input_ids": np.random.default_rng(3).integers(5, VOCAB.size, [3, 20]),
        "attention_mask": mask,
        "token_type_ids": mask & (np.arange(20) > 5),
        "label_positions": np.zeros([3, 1]),
        "slot_documents": np.ones([3, 1]),
    }
    return {name: tf.cast(value, tf.int32) for name, value in batch.items()}


def outputs_of(model, batch):
    """What our own forward pass computes for a task, [3, …]."""
    task = model.task
    if task.kind in ("classification", "regression"):
        pooled_BPH = heads.pooled(model.view, batch, task.pooling, tf.float32)
        return heads.classification_logits(
            model.view, pooled_BPH, task.pooling
        )[:, 0]
    states_BSH = encoder.encode(model.view, batch, tf.float32)
    if task.kind == "tagging":
        return heads.tagging_logits(model.view, states_BSH)
    return tf.stack(heads.span_logits(model.view, states_BSH), axis=-1)


@pytest.mark.parametrize("kind", TASKS)
def test_pytorch_s_class_for_the_task_computes_the_same(kind, tmp_path):
    torch = pytest.importorskip("torch")
    model, batch = fine_tuned(TASKS[kind]), batch_of()
    task_files.write(model, str(tmp_path), scores={})
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    (architecture,) = config.architectures
    theirs, report = getattr(transformers, architecture).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    with torch.no_grad():
        output = theirs.eval()(
            **{
                name: torch.tensor(batch[name].numpy().astype(np.int64))
                for name in ("input_ids", "attention_mask", "token_type_ids")
            }
        )
    expected = (
        torch.stack([output.start_logits, output.end_logits], -1)
        if kind == "question_answering"
        else output.logits
    )
    np.testing.assert_allclose(
        outputs_of(model, batch), expected.numpy(), atol=1e-5
    )
    assert config.pad_token_id == VOCAB.id("[PAD]")
    if labels := TASKS[kind].labels:
        assert tuple(config.id2label[i] for i in range(3)) == labels
        assert config.label2id == {n: i for i, n in enumerate(labels)}
    if kind == "regression":
        assert config.problem_type == "regression"


@pytest.mark.parametrize(
    "task",
    [
        *TASKS.values(),
        dataclasses.replace(TASKS["classification"], pooling="max"),
    ],
    ids=[*TASKS, "of-maxima"],
)
def test_a_model_is_read_back_as_it_was(task, tmp_path):
    task = dataclasses.replace(task, options={"text_column": "t"})
    model, batch = fine_tuned(task), batch_of()
    task_files.write(model, str(tmp_path), scores={"accuracy": 0.5})
    found = task_files.read(str(tmp_path))
    assert found.task == task
    assert found.vocabulary == VOCAB
    np.testing.assert_array_equal(
        outputs_of(found, batch), outputs_of(model, batch)
    )
    assert "| accuracy | 0.5000 |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_card_s_program_classifies_as_we_do(pooling, tmp_path):
    torch = pytest.importorskip("torch")
    task = dataclasses.replace(TASKS["classification"], pooling=pooling)
    model = fine_tuned(task)
    task_files.write(model, str(tmp_path), scores={})
    card = (tmp_path / "README.md").read_text()
    program = card.split("```python\n")[1].split("```")[0]
    texts = ["the cats sat.", "the dog, the big dog, ran"]
    program = program.replace("FOLDER", str(tmp_path)).replace(
        '["a text"]', repr(texts)
    )
    names = {}
    with torch.no_grad():
        exec(program, names)
    batch = {n: tf.constant(t.numpy()) for n, t in names["batch"].items()}
    batch = {n: tf.cast(v, tf.int32) for n, v in batch.items()}
    batch["slot_documents"] = tf.ones([2, 1], tf.int32)
    np.testing.assert_allclose(
        outputs_of(model, batch), names["logits"].numpy(), atol=1e-5
    )
    # As a class of its own it would compute another function, and says so.
    _, report = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert any("pooler" in name for name in report["missing_keys"])


def test_a_folder_that_is_no_fine_tuned_model_is_refused(tmp_path):
    def refused(message):
        with pytest.raises(errors.UserError, match=message):
            task_files.read(str(tmp_path))

    refused("holds no task.json; give a folder that bert_pretrain.finetune")
    path = tmp_path / "task.json"
    for content in ('{"kind": "dreaming"}', "[]", '{"labels": 3}'):
        path.write_text(content)
        refused("task.json: not as bert_pretrain.finetune writes it")
    path.write_text("{")
    refused("not JSON")
    task_files.write(fine_tuned(TASKS["tagging"]), str(tmp_path), scores={})
    wrong = json.loads(path.read_text()) | {"kind": "regression"}
    path.write_text(json.dumps(wrong))
    refused("shape")
    os.remove(tmp_path / "model.safetensors")
    refused("holds no model.safetensors")
