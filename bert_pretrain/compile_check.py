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

import collections
import dataclasses
import json
import math
import sys
from typing import Literal

from bert_pretrain import distribution, errors, options
from bert_pretrain.compilation import (
    assessment,
    batch_search,
    compiler,
    findings,
    isolation,
    peers,
    slices,
    training_step,
)
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import console
from bert_pretrain.training import phases, training_config

_DOES_NOT_FIT = 3
# The builder's, where nothing else is asked for.
_NUM_PREDICTIONS = 20
_MASKED_FRACTION = 0.15
_BATCH_UNIT = 8  # rows: memory is laid out in tiles of as many


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig(options.Options):
    """A set of records that is not there: what a step depends on of it."""

    seq_length: int | None = options.option(
        "Tokens in a row, where there is no --data_dir.", None, at_least=8
    )
    max_predictions_per_seq: int | None = options.option(
        "Predictions in a row, without --data_dir; 20, as the builder's, if "
        "not given; 0: 15 % of the tokens, or --masked_fraction.",
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
        "Tokens of the vocabulary, without --data_dir.", 30522, at_least=8
    )

    def __post_init__(self):
        super().__post_init__()
        num_predictions = self.max_predictions_per_seq
        if num_predictions and num_predictions > (self.seq_length or 2**31):
            raise errors.UserError(
                f"--max_predictions_per_seq={num_predictions} must be at most "
                f"--seq_length={self.seq_length}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(options.Options):
    """What to compile, and for what."""

    accelerator_type: str = options.option(
        "The TPUs, as Google names them: v5litepod-8, v6e-1, v4-32, …"
    )
    per_replica_batch_size: int | None = options.option(
        "Examples of a replica in a step, in place of --global_batch_size.",
        None,
        at_least=1,
    )
    price_per_chip_hour: float | None = options.option(
        "What a chip costs for an hour, for the cost of the run.",
        None,
        at_least=0,
    )
    find_batch: bool = options.option(
        "Searches the largest batch that fits, without and with "
        "recomputation; each try is a compilation.",
        False,
    )
    compare: bool = options.option(
        "Compiles HuggingFace's step and tf-models-official's, too.", False
    )
    json: bool = options.option(
        "Prints one JSON object instead of tables.", False
    )
    rows: RowsConfig
    training: training_config.TrainingConfig = options.part(
        data_dir="", model_dir="", total_steps=1_000_000
    )

    def __post_init__(self):
        super().__post_init__()
        size = self.per_replica_batch_size
        parts = self.training.accumulation_steps
        if size is not None and size % parts:
            raise errors.UserError(
                f"--per_replica_batch_size={size} must be a positive multiple "
                f"of --accumulation_steps={parts}."
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
    console.quiet_libraries()
    chips = slices.find(config.accelerator_type)
    training = _training(config, chips)
    plan = _plan(config, training, chips)
    alike = collections.defaultdict(list)
    for phase in plan:
        rows = training_step.Rows.of_phase(phase, chips.num_replicas)
        alike[rows].append(phase)
    report = findings.Report(
        chips,
        [
            _find(config, Work(chips, training, plan, rows), same)
            for rows, same in alike.items()
        ],
        config.price_per_chip_hour,
    )
    if config.json:
        print(json.dumps(report.to_dict()))
    else:
        report.print(sys.stdout)
    return 0 if report.fits else _DOES_NOT_FIT


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
        plan = training_config.plan(training)
    else:
        plan = training_config.plan(
            # It is in the number of predictions.
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


def _manifest(rows, training):
    """That of a set that is not there."""
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


@dataclasses.dataclass(frozen=True)
class Work:
    """A step that is to be compiled."""

    chips: slices.Slice
    training: training_config.TrainingConfig
    plan: list[phases.Phase]
    rows: training_step.Rows

    def assess(self):
        """(Its model, in words; the `Assessment`)."""
        step = self._lower(training_step.lower, self.training, self.plan)
        return step.model, self._assess(step, "our step")

    def assess_peer(self, name):
        architecture = bert_model.architecture(
            self.training.architecture, training_config.longest(self.plan)
        )
        precision = self.training.devices.precision
        step = self._lower(peers.lower, name, architecture, precision)
        return self._assess(step, f"{name}'s step")

    def with_rows(self, num_rows, recompute):
        """The same step of other rows."""
        return dataclasses.replace(
            self,
            rows=dataclasses.replace(self.rows, num_rows=num_rows),
            training=dataclasses.replace(self.training, recompute=recompute),
        )

    def _lower(self, lower, *args):
        return isolation.call(
            lower,
            *args,
            self.rows,
            self.chips.num_replicas,
            title=f"tracing {self._size}",
        )

    def _assess(self, step, what):
        return assessment.assess(
            self.chips,
            self.rows.num_rows,
            step,
            f"compiling {what} of {self._size} for "
            f"{self.chips.accelerator_type}",
        )

    @property
    def _size(self):
        return f"{self.rows.num_rows} x {self.rows.seq_length}"


def _find(config, work, same_phases):
    name, ours = work.assess()
    largest = {}
    if config.find_batch:
        largest = {
            recompute: _largest_batch(work, recompute, ours)
            for recompute in (False, True)
        }
    return findings.Finding(
        phases=same_phases,
        rows=work.rows,
        recompute=work.training.recompute,
        model=name,
        ours=ours,
        peers={
            peer: work.assess_peer(peer)
            for peer in peers.NAMES
            if config.compare
        },
        largest=largest,
    )


def _largest_batch(work, recompute, ours):
    """Rows of a replica, the most that fit."""

    def measure(num_rows):
        if (num_rows, recompute) == (ours.num_rows, work.training.recompute):
            return ours.needed_bytes
        _, found = work.with_rows(num_rows, recompute).assess()
        return found.needed_bytes

    return batch_search.find_largest(
        measure,
        first=work.rows.num_rows,
        unit=_BATCH_UNIT * work.rows.num_parts,
        available=ours.available_bytes,
    )


if __name__ == "__main__":
    options.run(check, Config)
