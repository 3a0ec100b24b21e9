"""Options of the compile check."""

import dataclasses
from typing import Literal

from bert_pretrain import errors, options
from bert_pretrain.pretraining import pretraining_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig(options.Options):
    """The facts about a dataset that a step depends on, without a dataset."""

    seq_length: int | None = options.option(
        "Tokens per row. Required without --data_dir.", None, at_least=8
    )
    max_predictions_per_seq: int | None = options.option(
        "Predictions per row, without --data_dir. If not given, 20, which is "
        "also the builder's default. With 0, 15 % of the tokens or "
        "--masked_fraction.",
        None,
        at_least=0,
    )
    pairing: Literal["none", "nsp", "sop"] = options.option(
        "The builder's --pairing, without --data_dir.", "none"
    )
    packing: bool = options.option(
        "The builder's --packing, without --data_dir.", False
    )
    vocab_size: int | None = options.option(
        "Tokens in the vocabulary, without --data_dir; default: the "
        "--bert_config's, or 30522.",
        None,
        at_least=8,
    )

    def __post_init__(self) -> None:
        """Compares the predictions with the length of a row."""
        super().__post_init__()
        num_predictions = self.max_predictions_per_seq
        if num_predictions and num_predictions > (self.seq_length or 2**31):
            raise errors.UserError(
                f"--max_predictions_per_seq={num_predictions} must be at most "
                f"--seq_length={self.seq_length}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig(options.Options):
    """The step to compile, and the TPUs to compile it for."""

    accelerator_type: str = options.option(
        "The TPU slice, by Google's name: v5litepod-8, v6e-1, v4-32, …"
    )
    per_replica_batch_size: int | None = options.option(
        "Examples per replica and step, in place of --global_batch_size.",
        None,
        at_least=1,
    )
    price_per_chip_hour: float | None = options.option(
        "Price of a chip per hour, to print the cost of the run.",
        None,
        at_least=0,
    )
    find_batch: bool = options.option(
        "Searches the largest batch that fits, without and with "
        "recomputation. Each attempt is a compilation.",
        False,
    )
    compare: bool = options.option(
        "Also compiles the steps of HuggingFace and tf-models-official.", False
    )
    json: bool = options.option(
        "Prints one JSON object instead of tables.", False
    )
    rows: RowsConfig
    training: pretraining_config.TrainingConfig = options.nested(
        data_dir="", model_dir="", total_steps=1_000_000
    )

    def __post_init__(self) -> None:
        """Checks options that depend on one another."""
        super().__post_init__()
        size = self.per_replica_batch_size
        num_microbatches = self.training.accumulation_steps
        if size is not None and size % num_microbatches:
            raise errors.UserError(
                f"--per_replica_batch_size={size} must be a positive multiple "
                f"of --accumulation_steps={num_microbatches}."
            )
        if self.training.data_dir and self.rows.seq_length is not None:
            raise errors.UserError(
                f"--seq_length={self.rows.seq_length} and --data_dir="
                f"{self.training.data_dir} both set the length of a row; leave "
                "one out."
            )
        if not self.training.data_dir and self.rows.seq_length is None:
            raise errors.UserError(
                "--seq_length is missing; give --data_dir, or the number of "
                "tokens per row."
            )
        if not self.training.data_dir and self.training.phases:
            raise errors.UserError(
                f"--phases={self.training.phases} needs --data_dir, because "
                "its phases use datasets that exist."
            )
