"""The first losses of a small run stay as they are recorded.

A change that moves them on purpose records them again, and gives the reason in
the file's "reason".
"""

import json
import pathlib

import numpy as np

from bert_pretrain import train
from bert_pretrain.checkpoints import checkpoint_config, model_directory
from bert_pretrain.model import model_config
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.training import training_config

GOLDEN = pathlib.Path(__file__).with_name("golden_losses.json")
# Processors differ in the last bits, and twenty steps magnify the difference.
RELATIVE_TOLERANCE = 2e-4


def test_the_first_losses_are_as_they_were(make_dataset, tmp_path):
    bert_config = tmp_path / "bert.json"
    bert_config.write_text(
        json.dumps(
            {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": 16,
            }
        )
    )
    config = pretraining_config.TrainingConfig(
        data_dir=make_dataset(train=(20, 20), pairing="nsp"),
        global_batch_size=8,
        steps_per_loop=1,
        architecture=model_config.ModelConfig(bert_config=str(bert_config)),
        schedule=training_config.ScheduleConfig(
            total_steps=20, peak_learning_rate=5e-3
        ),
        saving=checkpoint_config.CheckpointConfig(
            model_dir=str(tmp_path / "model")
        ),
    )
    assert train.main(config) == 0
    log = (tmp_path / "model" / model_directory.LOG_NAME).read_text()
    records = [json.loads(line) for line in log.splitlines()]
    losses = {
        name: [r[name] for r in records if r["kind"] == "train"]
        for name in ("masked_lm_loss", "next_sentence_loss", "gradient_norm")
    }
    recorded = tmp_path / GOLDEN.name
    recorded.write_text(json.dumps({"reason": "", **losses}, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    for name, values in losses.items():
        assert len(values) == 20
        np.testing.assert_allclose(
            values,
            golden[name],
            rtol=RELATIVE_TOLERANCE,
            err_msg=f"{name}; the new values are in {recorded}",
        )
