"""Compiles a training step for TPUs that are not there: does it fit?

python -m bert_pretrain.compile_check --accelerator_type=v5litepod-8 \\
    --flagfile=… | --data_dir=… | --seq_length=… [options of a training]

The step is the trainer's, as one replica of the whole slice, and the compiler
is the TPU's own. Nothing is executed. The numbers for memory and work are
exact; the times that follow from them are bounds.

Exit codes:
    0    it fits
    2    an error in the options or the files, explained in one line
    3    it does not fit; the output says what to change
"""

import collections
import dataclasses
import json
import math
import sys
from typing import Literal

from bert_pretrain import distribution, errors, options
from bert_pretrain.compilation import (
    compiler,
    findings,
    findings_table,
    slices,
    step_setup,
    training_step,
)
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import console
from bert_pretrain.training import phases, training_config

_DOES_NOT_FIT = 3
# The builder's defaults.
_NUM_PREDICTIONS = 20
_MASKED_FRACTION = 0.15


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
    vocab_size: int = options.option(
        "Tokens in the vocabulary, without --data_dir.", 30522, at_least=8
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
class Config(options.Options):
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
    training: training_config.TrainingConfig = options.nested(
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


def check(config: Config) -> int:
    """Compiles the step of each phase, and prints what it needs.

    Returns:
      The exit code of the process.

    Raises:
      UserError: if the compiler is not installed, or an option is wrong.
    """
    if not compiler.is_installed():
        raise errors.UserError(
            "jax or libtpu, which contains the TPU's compiler, is not "
            f"installed; run {compiler.EXTRA}."
        )
    console.quiet_libraries()
    chips = slices.find(config.accelerator_type)
    training = _training(config, chips)
    plan = _plan(config, training, chips)
    same_phases = collections.defaultdict(list)
    for phase in plan:
        batch = training_step.BatchShape.of_phase(phase, chips.num_replicas)
        same_phases[batch].append(phase)
    report = findings.Report(
        chips,
        [
            step_setup.StepSetup(chips, training, plan, batch).find(
                same, config.find_batch, config.compare
            )
            for batch, same in same_phases.items()
        ],
        config.price_per_chip_hour,
    )
    if config.json:
        print(json.dumps(report.to_dict()))
    else:
        findings_table.print_report(report, sys.stdout)
    return 0 if report.fits else _DOES_NOT_FIT


def _training(
    config: Config, chips: slices.Slice
) -> training_config.TrainingConfig:
    """The training's options, with the batch for these chips."""
    training = config.training
    if config.per_replica_batch_size is not None:
        training = dataclasses.replace(
            training,
            global_batch_size=config.per_replica_batch_size
            * chips.num_replicas,
        )
    return training


def _plan(
    config: Config,
    training: training_config.TrainingConfig,
    chips: slices.Slice,
) -> list[phases.Phase]:
    """The phases of the run, after a check that each of them is possible."""
    if training.data_dir:
        plan = training_config.plan(training)
    else:
        plan = training_config.plan(
            # The manifest's number of predictions includes the fraction.
            dataclasses.replace(training, masked_fraction=None),
            {"": _manifest(config.rows, training)},
        )
    bert_model.architecture(
        training.architecture, training_config.longest(plan)
    )
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size,
            chips.num_replicas,
            phase.accumulation_steps,
        )
    return plan


def _manifest(
    rows: RowsConfig, training: training_config.TrainingConfig
) -> manifests.Manifest:
    """The manifest that a dataset with these options would have."""
    assert rows.seq_length is not None  # `Config` requires it.
    init_from = training.architecture.init_from
    vocab_size, sha256 = rows.vocab_size, ""
    if init_from:
        vocab = vocabulary.read(f"{init_from}/{vocabulary.FILE_NAME}")
        vocab_size, sha256 = vocab.size, vocab.sha256
    num_predictions = rows.max_predictions_per_seq
    if num_predictions is None:
        num_predictions = min(_NUM_PREDICTIONS, rows.seq_length)
    masked_fraction = training.masked_fraction
    if masked_fraction or not num_predictions:
        num_predictions = math.ceil(
            (masked_fraction or _MASKED_FRACTION) * rows.seq_length
        )
    return manifests.Manifest(
        seq_length=rows.seq_length,
        max_predictions_per_seq=num_predictions,
        pairing=rows.pairing,
        masking="token",
        is_packed=rows.packing,
        vocab_size=vocab_size,
        vocab_sha256=sha256,
        is_lower_case=True,
        splits={},
        options={},
        sources=(),
        documents={},
        rows={},
    )


if __name__ == "__main__":
    options.run(check, Config)
