"""Files of adapters: read back, and read by PEFT."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import transformers

from bert_pretrain import errors
from bert_pretrain.checkpoints import pretrained
from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import task_files, task_json
from bert_pretrain.model import (
    adapters,
    bert_model,
    encoder,
    heads,
    model_config,
    weights,
)

VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *"the cat ##s dog sat ran big . ,".split()),
    is_lower_case=True,
)
LORA = model_config.AdapterConfig(
    adapter="lora",
    lora_rank=3,
    lora_alpha=5.0,
    lora_targets=("value", "attention_output", "output"),
)
BOTTLENECK = model_config.AdapterConfig(adapter="bottleneck", bottleneck_size=4)


@pytest.fixture
def base(tmp_path):
    """The folder of a pretrained model without pooler, as an export has it."""
    folder = tmp_path / "base"
    folder.mkdir()
    bert_config = transformers.BertConfig(
        vocab_size=VOCAB.size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        architectures=["BertForMaskedLM"],
    )
    bert = bert_model.from_config(bert_config)
    rng = np.random.default_rng(2)
    for variable in bert.weights:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    bert_config.save_pretrained(folder)
    weights.save(bert, f"{folder}/{weights.FILE_NAME}")
    VOCAB.write(f"{folder}/vocab.txt")
    return str(folder)


def fine_tuned(base, config, kind="classification", pooling="cls"):
    """Random adapters and head on top of a pretrained model."""
    task = task_json.Task(
        kind=kind,
        pooling=pooling,
        max_seq_length=20,
        labels=() if kind == "question_answering" else ("no", "yes", "both"),
        base_model=base,
    )
    body = pretrained.read(base)
    bert = pretrained.with_head(body, task.with_head(body.config), seed=3)
    added = adapters.build(bert, config, seed=1)
    rng = np.random.default_rng(4)
    for variable in (*heads.head_variables(bert, pooling), *added.variables):
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
    if task.kind == "classification":
        pooled_BPH = heads.pooled(model.view, batch, task.pooling, tf.float32)
        return heads.classification_logits(
            model.view, pooled_BPH, task.pooling
        )[:, 0].numpy()
    states_BSH = encoder.encode(model.view, batch, tf.float32)
    if task.kind == "tagging":
        return heads.tagging_logits(model.view, states_BSH).numpy()
    if task.kind == "embedding":
        return states_BSH.numpy()
    return tf.stack(heads.span_logits(model.view, states_BSH), -1).numpy()


def outputs_in_pytorch(bert, batch):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        output = bert.eval()(
            **{
                name: torch.tensor(batch[name].numpy().astype(np.int64))
                for name in ("input_ids", "attention_mask", "token_type_ids")
            }
        )
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1).numpy()
    return output[0].numpy()


@pytest.mark.filterwarnings("ignore")  # PEFT's own.
@pytest.mark.parametrize(
    "kind", ["classification", "tagging", "question_answering", "embedding"]
)
def test_peft_computes_the_same_and_so_do_the_merged_weights(
    kind, base, tmp_path
):
    pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    model, batch = fine_tuned(base, LORA, kind), batch_of()
    folder = f"{tmp_path}/adapter"
    task_files.write(model, folder, scores={})
    architecture = getattr(transformers, model.task.plain_architecture)
    arguments = (
        {"num_labels": 3} if kind in ("classification", "tagging") else {}
    )
    theirs = peft.PeftModel.from_pretrained(
        architecture.from_pretrained(base, **arguments), folder
    )
    expected = outputs_of(model, batch)
    # PEFT 0.21's own class for questions leaves token_type_ids out.
    asked = theirs.base_model if kind == "question_answering" else theirs
    np.testing.assert_allclose(
        outputs_in_pytorch(asked, batch), expected, atol=1e-5
    )
    np.testing.assert_allclose(
        outputs_in_pytorch(theirs.merge_and_unload(), batch),
        expected,
        atol=1e-5,
    )

    # Ours, merged and written as a plain model.
    adapters.merge(model.bert, model.adapters)
    plain = dataclasses.replace(
        model,
        adapters=adapters.build(
            model.bert, model_config.AdapterConfig(), seed=0
        ),
    )
    task_files.write(plain, f"{tmp_path}/merged", scores={})
    np.testing.assert_allclose(
        outputs_in_pytorch(
            architecture.from_pretrained(f"{tmp_path}/merged"), batch
        ),
        expected,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "config, pooling", [(LORA, "cls"), (LORA, "mean"), (BOTTLENECK, "cls")]
)
def test_adapters_are_read_back_with_their_head(
    config, pooling, base, tmp_path
):
    model, batch = fine_tuned(base, config, pooling=pooling), batch_of()
    folder = f"{tmp_path}/adapter"
    task_files.write(model, folder, scores={})
    found = task_files.read(folder)
    assert found.adapters.config == config
    np.testing.assert_array_equal(
        outputs_of(found, batch), outputs_of(model, batch)
    )


def test_only_what_was_trained_is_in_the_file(base, tmp_path):
    model = fine_tuned(base, LORA)
    task_files.write(model, f"{tmp_path}/adapter", scores={})
    arrays = weights.read([f"{tmp_path}/adapter/adapter_model.safetensors"])
    trained = [
        *model.adapters.variables,
        *heads.head_variables(model.bert, "cls"),
    ]
    assert sum(array.size for array in arrays.values()) == sum(
        variable.numpy().size for variable in trained
    )


def test_wrong_files_of_adapters_are_refused_in_one_line(base, tmp_path):
    folder = tmp_path / "adapter"
    model = fine_tuned(base, LORA)
    task_files.write(model, str(folder), scores={})
    path = folder / "adapter_config.json"
    right = json.loads(path.read_text())

    def refused(message, **values):
        path.write_text(json.dumps(right | values))
        with pytest.raises(errors.UserError, match=message):
            task_files.read(str(folder))

    refused("peft_type is 'IA3', and only", peft_type="IA3")
    refused("r is 'many', expected a number", r="many")
    refused("use_dora is not supported", use_dora=True)
    refused("r=8 .*|shape", r=8)
    refused("base_model_name_or_path is None", base_model_name_or_path=None)
    refused(
        "elsewhere/config.json: no such file",
        base_model_name_or_path=f"{tmp_path}/elsewhere",
    )
