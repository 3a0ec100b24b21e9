"""Compiles the step of each phase of a training, and says what it needs."""

import collections
import dataclasses
import math

import transformers

from bert_pretrain import errors
from bert_pretrain.assessment import check_config, findings, step_setup
from bert_pretrain.compilation import compiler, slices, training_step
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.devices import distribution, versions
from bert_pretrain.model import config_json
from bert_pretrain.pretraining import blueprint, phases, pretraining_config
from bert_pretrain.telemetry import console

# The builder's defaults.
_NUM_PREDICTIONS = 20
_MASKED_FRACTION = 0.15


def check(config: check_config.CheckConfig) -> findings.Report:
    """Compiles the step of each phase.

    Raises:
      UserError: if the compiler is not installed, or an option is wrong.
    """
    if not compiler.is_installed():
        constraints = versions.in_force().constraints
        raise errors.UserError(
            "jax or libtpu, which contains the TPU's compiler, is not "
            f"installed; run pip install -c {constraints} -e '.[compile]'."
        )
    console.quiet_libraries()
    chips = slices.find(config.accelerator_type)
    training = _training(config, chips)
    plan = _plan(config, training, chips)
    same_phases = collections.defaultdict(list)
    for phase in plan:
        batch = training_step.BatchShape.of_phase(phase, chips.num_replicas)
        same_phases[batch].append(phase)
    return findings.Report(
        chips,
        [
            step_setup.StepSetup(chips, training, plan, batch).find(
                same, config.find_batch, config.compare
            )
            for batch, same in same_phases.items()
        ],
        config.price_per_chip_hour,
    )


def _training(
    config: check_config.CheckConfig, chips: slices.Slice
) -> pretraining_config.TrainingConfig:
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
    config: check_config.CheckConfig,
    training: pretraining_config.TrainingConfig,
    chips: slices.Slice,
) -> list[phases.Phase]:
    """The phases of the run, after a check that each of them is possible."""
    if training.data_dir:
        plan = blueprint.plan(training)
    else:
        plan = blueprint.plan(
            # The manifest's number of predictions includes the fraction.
            dataclasses.replace(training, masked_fraction=None),
            {"": _manifest(config.rows, training)},
        )
    config_json.architecture(training.architecture, blueprint.longest(plan))
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size,
            chips.num_replicas,
            phase.accumulation_steps,
        )
    return plan


def _manifest(
    rows: check_config.RowsConfig, training: pretraining_config.TrainingConfig
) -> manifests.Manifest:
    """The manifest that a dataset with these options would have."""
    assert rows.seq_length is not None  # `Config` requires it.
    init_from = training.architecture.init_from
    vocab_size, sha256 = rows.vocab_size, ""
    if init_from:
        path = f"{init_from}/{vocabulary.FILE_NAME}"
        vocab = vocabulary.read(path, lower_case=True, strip_accents=True)
        vocab_size, sha256 = vocab.size, vocab.sha256
    elif vocab_size is None:
        path = training.architecture.bert_config
        # The default of the class is that of Google's BERT.
        bert_config = (
            config_json.read(path) if path else transformers.BertConfig()
        )
        vocab_size = bert_config.vocab_size
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
