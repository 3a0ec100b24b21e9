"""Options of a pretraining run."""

import dataclasses

from bert_pretrain import options
from bert_pretrain.model import model_config
from bert_pretrain.training import training_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(training_config.RunConfig):
    """Data, architecture, and what all runs have."""

    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it.",
        changes_result=False,  # its contents do
    )
    masked_fraction: float | None = options.option(
        "The share of tokens to predict, for datasets built with "
        "masking=none; the dataset's own if not given.",
        None,
        above=0,
        at_most=1,
        usual="BERT has 0.15",
    )
    phases: str = options.option(
        "A YAML file of what changes at which step (docs/training.md).",
        "",
        changes_result=False,  # What is in it is compared.
    )
    architecture: model_config.ModelConfig = model_config.ModelConfig()
