"""Compiles a training's step for TPUs that are not there: does it fit?

python -m bert_pretrain.compile_check --accelerator_type=v5litepod-8 \\
    --flagfile=… | --data_dir=… | --seq_length=… [a training's options]

The step is the trainer's, as one replica of the whole slice, and the compiler
is the TPUs' own. Nothing is run: what it tells of memory and work is exact,
what follows of time are bounds.

Exit codes:
    0    it fits
    2    a mistake in the options or the files, told in one line
    3    it does not fit; what to change is told
"""

import dataclasses
import json
import math
import sys
from typing import Literal

from bert_pretrain import (
    distribution,
    errors,
    model,
    options,
    recipe,
    records,
    telemetry,
    vocabulary,
)
from bert_pretrain.tpu import (
    assessment,
    compiler,
    isolation,
    slices,
    training_step,
)

_DOES_NOT_FIT = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """A set of records that is not there: what a step depends on of it."""

    seq_length: int | None = options.option(
        "Tokens in a row, where there is no --data_dir.", None
    )
    max_predictions_per_seq: int = options.option(
        "Predictions in a row, without --data_dir; 0: 15 % of the tokens, or "
        "--masked_fraction.",
        20,
    )
    pairing: Literal["none", "nsp", "sop"] = options.option(
        "The builder's --pairing, without --data_dir.", "none"
    )
    packing: bool = options.option(
        "The builder's --packing, without --data_dir.", False
    )
    vocab_size: int = options.option(
        "Tokens of the vocabulary, without --data_dir.", 30522
    )

    def __post_init__(self):
        for name in ("seq_length", "vocab_size"):
            value = getattr(self, name)
            if value is not None and value < 8:
                raise errors.UserError(f"--{name}={value} must be at least 8.")
        if not 0 <= self.max_predictions_per_seq <= (self.seq_length or 2**31):
            raise errors.UserError(
                f"--max_predictions_per_seq={self.max_predictions_per_seq} "
                f"must be at least 0 and at most --seq_length="
                f"{self.seq_length}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to compile, and for what."""

    accelerator_type: str = options.option(
        "The TPUs, as Google names them: v5litepod-8, v6e-1, v4-32, …"
    )
    per_replica_batch_size: int | None = options.option(
        "Examples of a replica in a step, in place of --global_batch_size.",
        None,
    )
    price_per_chip_hour: float | None = options.option(
        "What a chip costs for an hour, for the cost of the run.", None
    )
    json: bool = options.option(
        "Prints one JSON object instead of tables.", False
    )
    rows: RowsConfig
    training: recipe.Config = options.part(
        data_dir="", model_dir="", total_steps=1_000_000
    )

    def __post_init__(self):
        size = self.per_replica_batch_size
        parts = self.training.accumulation_steps
        if size is not None and (size < 1 or size % parts):
            raise errors.UserError(
                f"--per_replica_batch_size={size} must be a positive multiple "
                f"of --accumulation_steps={parts}."
            )
        if self.price_per_chip_hour is not None and (
            self.price_per_chip_hour < 0
        ):
            raise errors.UserError(
                f"--price_per_chip_hour={self.price_per_chip_hour} must not be "
                "negative."
            )
        if self.training.data_dir and self.rows.seq_length is not None:
            raise errors.UserError(
                f"--seq_length={self.rows.seq_length} and --data_dir="
                f"{self.training.data_dir} both say how long a row is; leave "
                "one out."
            )
        if not self.training.data_dir and self.rows.seq_length is None:
            raise errors.UserError(
                "--seq_length is missing: without --data_dir, whose manifest "
                "would tell, say how many tokens a row has."
            )
        if not self.training.data_dir and self.training.phases:
            raise errors.UserError(
                f"--phases={self.training.phases} needs --data_dir: its phases "
                "are of sets that are there."
            )


def check(config):
    """Compiles the step of each phase, and tells what it needs.

    Returns:
      The process's exit code.
    """
    if not compiler.is_installed():
        raise errors.UserError(
            "jax and libtpu, which holds the compiler of TPUs, are not "
            f"installed; run {compiler.EXTRA}."
        )
    telemetry.quiet_libraries()
    chips = slices.find(config.accelerator_type)
    training = _training(config, chips)
    plan = _plan(config, training, chips)
    steps = {}
    for phase in plan:
        shape = _shape(phase)
        if shape not in steps:
            steps[shape] = _assess(training, plan, phase, chips)
    found = [(phase, steps[_shape(phase)]) for phase in plan]
    if config.json:
        print(json.dumps(_to_dict(config, chips, found)))
    else:
        _print(config, chips, found)
    return 0 if all(step.fits for _, step in found) else _DOES_NOT_FIT


def _training(config, chips):
    """The training's options, as they are for these chips."""
    training = config.training
    if config.per_replica_batch_size is not None:
        training = dataclasses.replace(
            training,
            global_batch_size=config.per_replica_batch_size
            * chips.num_replicas,
        )
    return training


def _plan(config, training, chips):
    """The phases, all of which can be."""
    if training.data_dir:
        plan = recipe.plan(training)
    else:
        plan = recipe.plan(
            # It is in the number of predictions.
            dataclasses.replace(training, masked_fraction=None),
            {"": _manifest(config.rows, training)},
        )
    model.architecture(training.architecture, recipe.longest(plan))
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size,
            chips.num_replicas,
            phase.accumulation_steps,
        )
    return plan


def _manifest(rows, training):
    """That of a set that is not there."""
    init_from = training.architecture.init_from
    vocab_size, sha256 = rows.vocab_size, ""
    if init_from:
        vocab = vocabulary.read(f"{init_from}/{vocabulary.FILE_NAME}")
        vocab_size, sha256 = vocab.size, vocab.sha256
    num_predictions = rows.max_predictions_per_seq
    if training.masked_fraction or not num_predictions:
        num_predictions = math.ceil(
            (training.masked_fraction or 0.15) * rows.seq_length
        )
    return records.Manifest(
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


def _shape(phase):
    """What tells the steps of phases apart."""
    return (
        phase.global_batch_size,
        phase.accumulation_steps,
        phase.manifest.seq_length,
        (phase.masking or phase.manifest).max_predictions_per_seq,
        phase.manifest.is_packed,
    )


def _assess(training, plan, phase, chips):
    num_rows = phase.global_batch_size // chips.num_replicas
    what = f"{num_rows} x {phase.manifest.seq_length}"
    step = isolation.call(
        training_step.lower,
        training,
        plan,
        phase,
        chips.num_replicas,
        title=f"tracing the step of {what}",
    )
    return assessment.assess(
        chips,
        num_rows,
        step,
        f"compiling it for {chips.accelerator_type}",
    )


def _to_dict(config, chips, found):
    """The object that --json prints."""
    _, step = max(found, key=lambda each: each[1].needed_bytes)
    return {
        "accelerator_type": config.accelerator_type,
        "topology": chips.topology,
        "num_chips": chips.num_chips,
        **step.to_dict(),
        "fits": all(step.fits for _, step in found),
    }


def _print(config, chips, found):
    for phase, step in found:
        telemetry.print_table(
            f"{step.num_rows} x {phase.manifest.seq_length}",
            list(step.to_dict().items()),
            sys.stdout,
        )


if __name__ == "__main__":
    options.run(check, Config)
