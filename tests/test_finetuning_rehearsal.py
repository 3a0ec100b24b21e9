"""Fine-tuning on simulated TPUs equals that on the CPU."""

import dataclasses

import numpy as np
import pytest

from bert_pretrain.devices import distribution_config
from bert_pretrain.finetuning import finetuning
from bert_pretrain.tpu import rehearsal
from helpers import tasks

pytest.importorskip("jax")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "task, flags",
    [
        ("classification", ["--r_drop=1", "--adapter=lora"]),
        (
            "embedding",
            ["--label_column=similarity", "--text_pair_column=other"],
        ),
    ],
)
def test_tpus_learn_what_cpus_learn(tmp_path, task, flags):
    config = tasks.config_of(
        tmp_path, task, *flags, "--num_epochs=1", num_examples=24
    )
    with rehearsal.on_absent_tpus(2) as tpus:
        rehearsed = finetuning.finetune(config)
    assert "Trainer._replica_step" in {name for name, _ in tpus.programs}
    two_replicas = distribution_config.DistributionConfig(num_cpu_replicas=2)
    computed = finetuning.finetune(
        dataclasses.replace(
            config, output_dir=f"{tmp_path}/cpu", devices=two_replicas
        )
    )
    for name, score in computed.items():
        if isinstance(score, dict) and "mean" in score:
            np.testing.assert_allclose(
                rehearsed[name]["mean"], score["mean"], atol=1e-4, err_msg=name
            )
