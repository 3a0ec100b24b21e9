"""From text to an exported model, by the functions behind the commands."""

import numpy as np
import safetensors.numpy

from bert_pretrain import evaluate, export, files, summary, train
from bert_pretrain.checkpoints import (
    checkpoint_config,
    model_directory,
    trained_model,
)
from bert_pretrain.data import manifests
from bert_pretrain.evaluation import evaluation_config
from bert_pretrain.interchange import export_config
from bert_pretrain.model import model_config, weights
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.training import training_config
from helpers import builds
from tfrecord_builders import build


def test_packed_rows_of_text_become_a_model_on_paths_that_are_not_local(
    tmp_path, capsys
):
    # ram:// goes through tf.io.gfile exactly as gs:// does.
    folder = "ram://chain"
    builds.write_vocabulary(f"{folder}/vocab.txt")
    builds.write_news(f"{folder}/news-1.jsonl", num_documents=120)
    config = builds.config_of(folder, packing=True, test_fraction=0.1)
    build.main(config)

    files.write_json(
        f"{folder}/bert.json",
        {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
        },
    )
    run = pretraining_config.TrainingConfig(
        data_dir=config.output_dir,
        global_batch_size=8,
        steps_per_loop=10,
        architecture=model_config.ModelConfig(
            bert_config=f"{folder}/bert.json"
        ),
        schedule=training_config.ScheduleConfig(
            total_steps=30, peak_learning_rate=1e-2
        ),
        saving=checkpoint_config.CheckpointConfig(
            model_dir=f"{folder}/model", checkpoint_every_steps=10
        ),
    )
    assert train.main(run) == 0
    results = files.read_json(
        f"{folder}/model/{model_directory.TRAIN_RESULTS_NAME}"
    )
    start, end = results["start"], results["end"]
    assert end["masked_lm_loss"] < start["masked_lm_loss"]
    evaluate.main(
        evaluation_config.EvaluateConfig(
            data_dir=config.output_dir,
            model_dir=f"{folder}/model",
            split="test",
        )
    )
    export.main(
        export_config.ExportConfig(
            model_dir=f"{folder}/model", output_dir=f"{folder}/export"
        )
    )
    summary.main(
        summary.SummaryConfig(
            data_dir=config.output_dir,
            model_dir=f"{folder}/model",
            export_dir=f"{folder}/export",
        )
    )
    assert f"{folder}/export" in capsys.readouterr().out

    assert manifests.read(config.output_dir).is_packed
    files.write_bytes(
        f"{tmp_path}/weights",
        files.read_bytes(f"{folder}/export/{weights.FILE_NAME}"),
    )
    exported = safetensors.numpy.load_file(f"{tmp_path}/weights")
    restored = trained_model.restore(f"{folder}/model")
    np.testing.assert_array_equal(
        exported["bert.embeddings.word_embeddings.weight"],
        restored.bert.bert.embeddings.weight,
    )
