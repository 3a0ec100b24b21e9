"""Files of adapters: read back, and read by PEFT."""

import dataclasses
import json

import numpy as np
import pytest
import transformers

from bert_pretrain import errors
from bert_pretrain.checkpoints import pretrained
from bert_pretrain.interchange import adapter_files, task_files
from bert_pretrain.model import (
    adapters,
    bert_model,
    heads,
    model_config,
    weights,
)
from helpers import fine_tuned

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
    bert_config = fine_tuned.architecture(
        num_hidden_layers=2, architectures=["BertForMaskedLM"]
    )
    bert = bert_model.from_config(bert_config)
    fine_tuned.spread(bert.weights)
    bert_config.save_pretrained(folder)
    weights.save(bert, f"{folder}/{weights.FILE_NAME}")
    fine_tuned.VOCAB.write(f"{folder}/vocab.txt")
    return str(folder)


def adapted(base, config, kind="classification", pooling="cls"):
    """Random adapters and head on top of a pretrained model."""
    task = dataclasses.replace(
        fine_tuned.TASKS[kind], pooling=pooling, base_model=base
    )
    body = pretrained.read(base)
    bert = pretrained.with_head(body, task.with_head(body.config), seed=3)
    added = adapters.build(bert, config, seed=1)
    fine_tuned.spread(added.variables, seed=4)
    fine_tuned.spread(heads.head_variables(bert, pooling), seed=5)
    return dataclasses.replace(fine_tuned.plain(bert, task), adapters=added)


@pytest.mark.filterwarnings("ignore")  # PEFT's own.
@pytest.mark.parametrize(
    "kind", ["classification", "tagging", "question_answering", "embedding"]
)
def test_peft_computes_the_same_and_so_do_the_merged_weights(
    kind, base, tmp_path
):
    pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    model, batch = adapted(base, LORA, kind), fine_tuned.batch_of()
    folder = f"{tmp_path}/adapter"
    task_files.write(model, folder, scores={})
    architecture = getattr(transformers, model.task.plain_architecture)
    arguments = (
        {"num_labels": 3} if kind in ("classification", "tagging") else {}
    )
    theirs = peft.PeftModel.from_pretrained(
        architecture.from_pretrained(base, **arguments), folder
    )
    expected = fine_tuned.outputs_of(model, batch)
    # PEFT 0.21's own class for questions leaves token_type_ids out.
    asked = theirs.base_model if kind == "question_answering" else theirs
    np.testing.assert_allclose(
        fine_tuned.outputs_in_pytorch(asked, batch), expected, atol=1e-5
    )
    np.testing.assert_allclose(
        fine_tuned.outputs_in_pytorch(theirs.merge_and_unload(), batch),
        expected,
        atol=1e-5,
    )

    # Ours, merged and written as a plain model.
    adapters.merge(model.bert, model.adapters)
    plain = fine_tuned.plain(model.bert, model.task)
    task_files.write(plain, f"{tmp_path}/merged", scores={})
    np.testing.assert_allclose(
        fine_tuned.outputs_in_pytorch(
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
    model, batch = adapted(base, config, pooling=pooling), fine_tuned.batch_of()
    folder = f"{tmp_path}/adapter"
    task_files.write(model, folder, scores={})
    found = task_files.read(folder)
    assert found.adapters.config == config
    np.testing.assert_array_equal(
        fine_tuned.outputs_of(found, batch), fine_tuned.outputs_of(model, batch)
    )


@pytest.mark.filterwarnings("ignore")  # PEFT's own.
def test_what_peft_saves_is_read(base, tmp_path):
    pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    model, batch = adapted(base, LORA), fine_tuned.batch_of()
    task_files.write(model, f"{tmp_path}/adapter", scores={})
    peft.PeftModel.from_pretrained(
        transformers.BertForSequenceClassification.from_pretrained(
            base, num_labels=3
        ),
        f"{tmp_path}/adapter",
    ).save_pretrained(f"{tmp_path}/again")
    # Its head, of which the pooler is a part, is another one.
    other = adapted(base, LORA)
    fine_tuned.spread(heads.head_variables(other.bert, "cls"), seed=6)
    added = adapter_files.read(f"{tmp_path}/again", other.bert, "cls")
    np.testing.assert_array_equal(
        fine_tuned.outputs_of(
            dataclasses.replace(other, adapters=added), batch
        ),
        fine_tuned.outputs_of(model, batch),
    )


def test_only_what_was_trained_is_in_the_file(base, tmp_path):
    model = adapted(base, LORA)
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
    model = adapted(base, LORA)
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
