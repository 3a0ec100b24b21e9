"""Every path that is written is read back, whatever characters it has."""

import json
import os
import pathlib

import pytest
import transformers

from bert_pretrain import (
    errors,
    evaluate,
    export,
    options,
    plot_runs,
    train,
)
from bert_pretrain.checkpoints import checkpoint_config
from bert_pretrain.data import vocabulary
from bert_pretrain.evaluation import evaluation_config
from bert_pretrain.interchange import export_config
from helpers import builds, training
from tfrecord_builders import build, learn_vocabulary, report
from tfrecord_builders.sources import documents
from tfrecord_builders.tokens import learn_config

ODD = "a b*c?#=%~ 'q\"u{o,t}e ü中 ]" + "x" * 160
PATTERN = "br[ack]ets \\"


@pytest.mark.slow
@pytest.mark.parametrize("name", [ODD, PATTERN], ids=["odd", "pattern"])
def test_a_chain_of_programs_works_in_a_folder_of_any_name(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    text = str(tmp_path / "text")
    os.mkdir(text)
    builds.write_news(f"{text}/news-1.jsonl", 60)
    learn_vocabulary.main(
        learn_config.LearnConfig(
            source=documents.SourceConfig(
                source=("jsonl",), input=(f"{text}/news-1.jsonl",)
            ),
            output_file=f"{folder}/words {name[:20]}.txt",
            vocab_size=100,
        )
    )
    assert vocabulary.read(f"{folder}/words {name[:20]}.txt").is_lower_case
    (folder / "news-1.jsonl").write_text(
        pathlib.Path(f"{text}/news-1.jsonl").read_text()
    )
    builds.write_vocabulary(f"{folder}/vocab.txt")
    config = builds.config_of(str(folder), "set")
    source = {"source": ("jsonl",), "input": (f"{folder}/news-1.jsonl",)}
    config = options.from_dict(
        type(config),
        options.to_dict(config)
        | {
            "dataset": options.to_dict(config.dataset)
            | {"source": options.to_dict(config.dataset.source) | source}
        },
    )
    build.main(config)
    build.main(config)  # It is complete, and found again.

    model_dir = "model" if name == PATTERN else f"{name}/model"
    run = training.config(
        tmp_path,
        config.output_dir,
        model_dir,
        total_steps=2,
        bert={"max_position_embeddings": 64},
    )
    assert train.main(run) == 0
    assert train.main(run) == 0  # It is restored.
    evaluate.main(
        evaluation_config.EvaluateConfig(
            data_dir=config.output_dir,
            model_dir=run.saving.model_dir,
            split="validation",
        )
    )
    assert training.evaluated(run)["validation"]["step"] == 2
    plot_runs.main(
        plot_runs.PlotConfig(
            model_dir=(run.saving.model_dir,), output_file=f"{folder}/run.png"
        )
    )
    assert pathlib.Path(folder, "run.png").read_bytes()[1:4] == b"PNG"
    report.main(
        report.ReportConfig(
            data_dir=config.output_dir, output_file=f"{folder}/report.html"
        )
    )
    assert "</html>" in pathlib.Path(folder, "report.html").read_text()
    exported = f"{folder}/export"
    export.main(
        export_config.ExportConfig(
            model_dir=run.saving.model_dir, output_dir=exported
        )
    )
    assert transformers.AutoConfig.from_pretrained(exported)
    assert json.loads(pathlib.Path(exported, "config.json").read_text())


@pytest.mark.parametrize("wrong", ["[", "\\"])
def test_a_model_directory_that_tensorflow_cannot_read_is_refused(wrong):
    with pytest.raises(errors.UserError, match="give another folder"):
        checkpoint_config.CheckpointConfig(model_dir=f"runs/a{wrong}b")


def test_the_home_folder_is_put_in_where_the_shell_does_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert options.tidy("model_dir", "~/run/") == "/home/ada/run"
    assert options.tidy("vocab_file", "~/v.txt") == "/home/ada/v.txt"
    assert options.tidy("model_dir", "run~1") == "run~1"
    assert options.tidy("freeze", "~x") == "~x"
