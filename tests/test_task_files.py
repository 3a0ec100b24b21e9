"""Folders of fine-tuned models: read back, and read by transformers."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
import transformers

from bert_pretrain import errors
from bert_pretrain.interchange import task_files
from helpers import fine_tuned

KINDS = ("classification", "regression", "tagging", "question_answering")


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_s_class_for_the_task_computes_the_same(kind, tmp_path):
    pytest.importorskip("torch")
    task, batch = fine_tuned.TASKS[kind], fine_tuned.batch_of()
    model = fine_tuned.model_of(task)
    task_files.write(model, str(tmp_path), scores={})
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    (architecture,) = config.architectures
    theirs, report = getattr(transformers, architecture).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    np.testing.assert_allclose(
        fine_tuned.outputs_of(model, batch),
        fine_tuned.outputs_in_pytorch(theirs, batch),
        atol=1e-5,
    )
    assert config.pad_token_id == fine_tuned.VOCAB.id("[PAD]")
    if task.labels:
        assert tuple(config.id2label[i] for i in range(3)) == task.labels
        assert config.label2id == {n: i for i, n in enumerate(task.labels)}
    if kind == "regression":
        assert config.problem_type == "regression"


@pytest.mark.parametrize(
    "kind, pooling",
    [
        *((kind, "cls") for kind in KINDS),
        ("classification", "max"),
        ("embedding", "mean"),
    ],
)
def test_a_model_is_read_back_as_it_was(kind, pooling, tmp_path):
    task = dataclasses.replace(
        fine_tuned.TASKS[kind], pooling=pooling, options={"text_column": "t"}
    )
    model, batch = fine_tuned.model_of(task), fine_tuned.batch_of()
    task_files.write(model, str(tmp_path), scores={"accuracy": 0.5})
    found = task_files.read(str(tmp_path))
    assert found.task == task
    assert found.vocabulary == fine_tuned.VOCAB
    np.testing.assert_array_equal(
        fine_tuned.outputs_of(found, batch), fine_tuned.outputs_of(model, batch)
    )
    assert "| accuracy | 0.5000 |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_card_s_program_classifies_as_we_do(pooling, tmp_path):
    torch = pytest.importorskip("torch")
    model = fine_tuned.model_of(
        dataclasses.replace(fine_tuned.TASKS["classification"], pooling=pooling)
    )
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
    np.testing.assert_allclose(
        fine_tuned.outputs_of(model, fine_tuned.with_slots(batch)),
        names["logits"].numpy(),
        atol=1e-5,
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
    model = fine_tuned.model_of(fine_tuned.TASKS["tagging"])
    task_files.write(model, str(tmp_path), scores={})
    wrong = json.loads(path.read_text()) | {"kind": "regression"}
    path.write_text(json.dumps(wrong))
    refused("classifier.weight has the shape")
    os.remove(tmp_path / "model.safetensors")
    refused("holds no model.safetensors")
