"""Options of an evaluation."""

import dataclasses
from typing import Literal

from bert_pretrain import options
from bert_pretrain.devices import distribution_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(options.Options):
    """Which checkpoint is evaluated, on which records, and on which devices."""

    data_dir: str = options.option(
        "Folder of the dataset that tfrecord_builders.build made."
    )
    model_dir: str = options.option("Folder that bert_pretrain.train wrote.")
    split: Literal["validation", "test"] = options.option(
        "Which held-out documents.", "validation"
    )
    checkpoint: Literal["newest", "best"] = options.option(
        "Which checkpoint; best is the one with the least held-out loss.",
        "newest",
    )
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 64, at_least=1, at_most=2**20
    )
    devices: distribution_config.DistributionConfig = (
        distribution_config.DistributionConfig()
    )
