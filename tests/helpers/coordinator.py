"""bert_pretrain.train as the coordinator of a pod whose hosts lack TPUs.

python -m helpers.coordinator NUM_REPLICAS NUM_HOSTS SILENCE_SECONDS …

The workers, the connection to them, and all that hosts do are real. The steps
are executed on this machine's CPU (tpu/rehearsal.py), a stand-in for the TPUs.
"""

from bert_pretrain import interruption

if __name__ == "__main__":
    interruption.listen()

# ruff: noqa: E402
import dataclasses
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from bert_pretrain import command_line, train
from bert_pretrain.devices import supervision
from bert_pretrain.pretraining import pretraining_config


def main(config):
    supervision.SILENCE_SECONDS = silence_seconds
    return supervision.run(lambda: rehearse(config), config.devices.tpu)


def rehearse(config):
    from bert_pretrain.tpu import rehearsal

    try:
        with rehearsal.on_absent_tpus(
            num_replicas, num_hosts, config.devices.tpu
        ):
            devices = dataclasses.replace(config.devices, tpu="")
            return train.main(dataclasses.replace(config, devices=devices))
    except interruption.Interrupted as interrupted:
        return interruption.report(interrupted)


if __name__ == "__main__":
    num_replicas, num_hosts, silence_seconds = map(int, sys.argv[1:4])
    del sys.argv[1:4]
    command_line.run(main, pretraining_config.TrainingConfig)
