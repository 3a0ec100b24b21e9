"""Options of the doctor."""

import dataclasses

from bert_pretrain import options
from bert_pretrain.assessment import check_config
from bert_pretrain.pretraining import pretraining_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorConfig(options.Options):
    """The run that is to be examined before it starts."""

    accelerator_type: str = options.option(
        "The TPU slice that the run is for, by Google's name: v5litepod-8, "
        "v4-32, …. If given, the step is also compiled for it, which takes "
        "minutes: does it fit, how long does the run take?",
        "",
    )
    per_replica_batch_size: int | None = options.option(
        "With --accelerator_type: see compile_check.", None, at_least=1
    )
    price_per_chip_hour: float | None = options.option(
        "Price of a chip per hour, to say what the run costs.",
        None,
        at_least=0,
    )
    tpu_seconds: int = options.option(
        "Seconds that the TPU, or a worker of a pod, has to answer.",
        120,
        at_least=1,
        at_most=3600,
    )
    json: bool = options.option(
        "Prints one JSON object instead of lines.", False
    )
    rows: check_config.RowsConfig
    training: pretraining_config.TrainingConfig = options.nested(
        data_dir="", model_dir="", total_steps=1_000_000
    )
