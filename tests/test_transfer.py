"""The benchmark of what pretraining is worth, without its long runs."""

import json
import pathlib
import sys

import numpy as np
import pytest

from bert_pretrain import command_line
from bert_pretrain.finetuning import finetune_config, finetuning
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.tasks import examples
from tfrecord_builders.stages import build_config
from tfrecord_builders.tokens import learn_config

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import transfer  # noqa: E402

_CONFIGS = {
    "tfrecord_builders.learn_vocabulary": learn_config.LearnConfig,
    "tfrecord_builders.build": build_config.BuildConfig,
    "bert_pretrain.train": pretraining_config.TrainingConfig,
    "bert_pretrain.finetune": finetune_config.FinetuneConfig,
}


@pytest.fixture
def sst2(tmp_path):
    """A folder of SST-2: good films and bad ones."""
    folder = tmp_path / "sst2"
    folder.mkdir()
    for split, size in {"train": 40, "dev": 10, "test": 20}.items():
        lines = [
            f"{i % 2}\ta {('bad', 'good')[i % 2]} film" for i in range(size)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(["label\ttext", *lines]))
    return str(folder)


def test_a_run_is_measured_once(sst2, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    commands = []

    def run(module, *arguments):
        config = command_line.parse(_CONFIGS[module], arguments)
        commands.append(module)
        if module == "bert_pretrain.finetune":
            accuracies = [0.6, 0.7] if config.from_scratch else [0.8, 0.9]
            scores = {"accuracy": {"seeds": accuracies}}
            if not config.from_scratch:
                scores["ensemble"] = {"accuracy": 0.9125}
            metrics = {"test": scores}
            folder = pathlib.Path(config.output_dir)
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(transfer, "_run", run)
    config = transfer.BenchmarkConfig(
        output_dir=str(tmp_path / "transfer"),
        sst2_dir=sst2,
        num_labels=(10, 0),
        seeds="1,2",
        methods=("pretrained", "random", "tf-idf"),
    )
    transfer.main(config)
    assert commands.count("bert_pretrain.finetune") == 4
    results = json.loads((tmp_path / "transfer/results.json").read_text())
    means = {(r["labels"], r["method"]): r["mean"] for r in results}
    assert means[40, "pretrained"] == pytest.approx(0.85)
    assert means[40, "tf-idf"] == 1
    assert "| 0.9125 | +0.2000, 2.0 deviations |" in capsys.readouterr().out
    assert (tmp_path / "transfer/transfer.png").exists()

    commands.clear()
    transfer.main(config)
    assert "bert_pretrain.finetune" not in commands


def test_the_baselines_learn_the_labels_that_fine_tuning_draws():
    texts = examples.TextExamples(
        path="train.tsv",
        lines=list(range(50)),
        texts=[str(i) for i in range(50)],
        pairs=None,
        labels=["yes"] * 50,
    )
    for seed in 1, 2:
        drawn = finetuning._choose(texts, 9, seed).texts
        assert drawn == [str(i) for i in transfer.draw_labels(50, 9, seed)]
    np.testing.assert_array_equal(transfer.draw_labels(50, 0, 1), range(50))
