"""One run of fine-tuning: a task, learned from one seed."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import transformers

from bert_pretrain import errors, options
from bert_pretrain.checkpoints import (
    checkpoint_config,
    checkpoint_files,
    model_directory,
    pretrained,
)
from bert_pretrain.data import labelled_rows
from bert_pretrain.devices import distribution
from bert_pretrain.finetuning import finetune_config, learners, task_evaluator
from bert_pretrain.interchange import task_files, task_json
from bert_pretrain.model import adapters, bert_model, heads, objectives
from bert_pretrain.tasks import task
from bert_pretrain.training import (
    course,
    optimizer,
    schedule,
    train_state,
    training_config,
    training_loop,
)

# Learning rates by the size of hidden states, up to this one.
_RATES = {128: 5e-4, 256: 3e-4, 512: 1e-4, 768: 3e-5}
_SMALLEST_RATE = 2e-5
_MAX_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedConfig(training_config.RunConfig):
    """The options of a run from one seed."""

    finetuning: finetune_config.FinetuneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """What all runs of a task share."""

    strategy: tf.distribute.Strategy
    encoder: pretrained.Pretrained
    task: task.Task
    description: task_json.Task
    dev: Any  # examples
    dev_pieces: labelled_rows.Pieces
    files_sha256: str  # of the files' contents


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskPhase(course.Phase):
    """Training on labelled rows, measured on the dev examples."""

    material: Material
    pieces: labelled_rows.Pieces  # to learn from
    layout: labelled_rows.Layout
    rows_per_epoch: int

    @property
    def dataset(self) -> str:
        """There is only one."""
        return "train"

    @property
    def seq_length(self) -> int:
        """Tokens of a row, with padding."""
        return self.layout.seq_length

    @property
    def examples_per_row(self) -> float:
        """See `Phase`; several short texts share a row."""
        return len(self.pieces) / self.rows_per_epoch

    @property
    def num_predictions(self) -> int:
        """No word is masked."""
        return 0

    def train_batches(
        self, strategy: tf.distribute.Strategy, seed: int, examples: range
    ) -> tf.distribute.DistributedDataset:
        """Batches of rows, in the order of the seed."""
        return labelled_rows.train_batches(
            strategy, self.pieces, self.layout, seed, examples
        )

    def evaluator(
        self,
        strategy: tf.distribute.Strategy,
        learner: objectives.Learner,
        dtype: tf.DType,
    ) -> tuple[task_evaluator.TaskEvaluator, int]:
        """Scores the dev examples."""
        assert isinstance(learner, learners.TaskLearner)
        material = self.material
        evaluator = task_evaluator.TaskEvaluator(
            strategy,
            learner,
            material.dev_pieces,
            layout_of(material.dev_pieces, self.layout),
            dtype,
            lambda outputs: material.task.scores(material.dev, outputs),
        )
        return evaluator, evaluator.num_batches

    @contextlib.contextmanager
    def naming_failures(self) -> Iterator[None]:
        """Turns exhausted memory into an error that names the remedy."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise errors.UserError(
                "the device's memory is exhausted "
                f"({error.message.splitlines()[0]}); give a smaller "
                "--global_batch_size or --max_seq_length, or --recompute."
            ) from error


def layout_of(
    pieces: labelled_rows.Pieces, like: labelled_rows.Layout
) -> labelled_rows.Layout:
    """Rows and batches of the same size, with slots for other pieces."""
    return dataclasses.replace(
        like, num_slots=pieces.num_slots_of_row(like.seq_length)
    )


def learn(
    config: finetune_config.FinetuneConfig,
    seed: int,
    material: Material,
    train: Any,
    raise_if_asked: Callable[[], None],
) -> tuple[learners.TaskLearner, labelled_rows.Layout]:
    """Learns the training examples; resumes if it was interrupted.

    Returns:
      What has learned, and the rows and batches that it learned from.

    Raises:
      UserError, Interrupted, Diverged, Spoilt: see `training_loop.train`.
    """
    pieces = material.task.encode(train, is_labelled=True, is_training=True)
    _warn_of_untrained_positions(config, pieces, material.encoder)
    layout = _layout(config, pieces, material.strategy.num_replicas_in_sync)
    num_rows = len(labelled_rows.Epochs(pieces, layout, seed).rows(0))
    run_config = _run_config(config, seed, num_rows, layout, material)
    phase = TaskPhase(
        from_step=0,
        until_step=run_config.schedule.total_steps,
        global_batch_size=layout.batch_size,
        accumulation_steps=config.accumulation_steps,
        peak_learning_rate=run_config.schedule.peak_learning_rate,
        material=material,
        pieces=pieces,
        layout=layout,
        rows_per_epoch=num_rows,
    )
    bert_config = _with_dropout(
        material.description.with_head(material.encoder.config),
        config.learning.dropout,
    )
    is_changed = model_directory.prepare(
        SeedConfig,
        options.to_dict(run_config)
        | {model_directory.DATASET_NAME: material.files_sha256},
        bert_config,
        material.encoder.vocabulary,
    )
    losses = _loss_config(config, pieces, material)

    def new_state() -> train_state.TrainState:
        return _new_state(run_config, bert_config, losses, material)

    outcome = training_loop.train(
        run_config,
        [phase],
        material.strategy,
        new_state,
        is_changed=is_changed,
        announce=functools.partial(_announce, seed, phase, len(train)),
        raise_if_asked=raise_if_asked,
    )
    learner = outcome.state.learner
    assert isinstance(learner, learners.TaskLearner)
    if config.checkpoint == "best" or config.early_stopping_patience:
        _restore_best(learner, run_config.saving.model_dir)
    return learner, layout


def _announce(
    seed: int,
    phase: TaskPhase,
    num_examples: int,
    state: train_state.TrainState,
) -> None:
    """Prints what is learned, and by how many weights."""
    layout = phase.layout
    num_pieces = len(phase.pieces)
    pieces = f" in {num_pieces:,} parts" if num_pieces != num_examples else ""
    num_trained = sum(int(np.prod(v.shape)) for v in state.variables)
    print(
        f"seed {seed}: {num_examples:,} examples{pieces}, {layout.batch_size} "
        f"rows of {layout.seq_length} tokens a step, {phase.until_step:,} "
        f"steps; {num_trained:,} of {state.bert.num_parameters():,} "
        "parameters learn"
    )


def write(
    config: finetune_config.FinetuneConfig,
    learner: learners.TaskLearner,
    material: Material,
    folder: str,
    scores: Mapping[str, float],
) -> None:
    """Writes the model that was learned, as HuggingFace's classes read it.

    The learner is of no use afterwards, because the numbers of a regression
    and merged adapters change its weights.
    """
    learner.settle()
    added = learner.adapters
    if config.merge_adapter and config.added.adapter != "none":
        adapters.merge(learner.bert, added)
        added = adapters.build(
            learner.bert, type(config.added)(adapter="none"), 0
        )
    task_files.write(
        task_files.FineTunedModel(
            bert=learner.bert,
            adapters=added,
            vocabulary=material.encoder.vocabulary,
            task=material.description,
        ),
        folder,
        scores,
    )


def _warn_of_untrained_positions(
    config: finetune_config.FinetuneConfig,
    pieces: labelled_rows.Pieces,
    encoder: pretrained.Pretrained,
) -> None:
    num_positions = encoder.num_trained_positions
    num_long = int((pieces.lengths > num_positions).sum())
    if num_long and not config.from_scratch:
        errors.warn(
            f"{num_long:,} of {len(pieces):,} texts have more tokens than the "
            f"{num_positions:,} positions that the model in "
            f"{config.init_from} was pretrained on; their ends are read with "
            f"random positions. --max_seq_length={num_positions} cuts them."
        )


# ------------------------------------------------------------ rows and steps


def _layout(
    config: finetune_config.FinetuneConfig,
    pieces: labelled_rows.Pieces,
    num_replicas: int,
) -> labelled_rows.Layout:
    """Rows, and so many in a batch as hold its examples on average."""
    seq_length = config.what.max_seq_length
    single = labelled_rows.Layout(
        seq_length=seq_length,
        num_slots=pieces.num_slots_of_row(seq_length),
        batch_size=1,
    )
    num_rows = len(labelled_rows.Epochs(pieces, single, 0).rows(0))
    wanted = config.global_batch_size * num_rows / len(pieces)
    multiple = num_replicas * config.accumulation_steps
    size = max(1, round(wanted / multiple)) * multiple
    distribution.check_batch(size, num_replicas, config.accumulation_steps)
    return dataclasses.replace(single, batch_size=size)


def _run_config(
    config: finetune_config.FinetuneConfig,
    seed: int,
    num_rows: int,
    layout: labelled_rows.Layout,
    material: Material,
) -> SeedConfig:
    learning = config.learning
    steps_of_epoch = max(1, round(num_rows / layout.batch_size))
    total_steps = max(
        1, round(learning.num_epochs * num_rows / layout.batch_size)
    )
    return SeedConfig(
        global_batch_size=layout.batch_size,
        accumulation_steps=config.accumulation_steps,
        recompute=config.recompute,
        steps_per_loop=config.steps_per_loop,
        eval_every_steps=config.eval_every_steps
        or max(steps_of_epoch, -(-total_steps // _MAX_EVALUATIONS)),
        early_stopping_patience=config.early_stopping_patience,
        seed=seed,
        optimization=config.optimization,
        schedule=training_config.ScheduleConfig(
            total_steps=total_steps,
            schedule=learning.schedule,
            peak_learning_rate=learning.peak_learning_rate
            or usual_rate(material.encoder.config.hidden_size),
            warmup_steps=int(learning.warmup_fraction * total_steps),
        ),
        devices=config.devices,
        saving=checkpoint_config.CheckpointConfig(
            model_dir=f"{config.output_dir}/runs/seed-{seed}",
            checkpoint_every_steps=config.checkpoint_every_steps,
            keep_checkpoints=1,
            allow_changed_options=config.allow_changed_options,
        ),
        failures=config.failures,
        trace=config.trace,
        tracking=config.tracking,
        finetuning=config,
    )


def usual_rate(hidden_size: int) -> float:
    """The learning rate that is usual for hidden states of this size."""
    return next(
        (rate for size, rate in _RATES.items() if hidden_size <= size),
        _SMALLEST_RATE,
    )


# --------------------------------------------------------- the first weights


def _with_dropout(
    bert_config: transformers.BertConfig, rate: float
) -> transformers.BertConfig:
    """The architecture with dropout, which pretraining may have left out."""
    bert_config.hidden_dropout_prob = rate
    bert_config.attention_probs_dropout_prob = rate
    bert_config.classifier_dropout = None
    return bert_config


def _new_state(
    run_config: SeedConfig,
    bert_config: transformers.BertConfig,
    losses: learners.LossConfig,
    material: Material,
) -> train_state.TrainState:
    """Model, adapters and optimizer at step 0."""
    config = run_config.finetuning
    bert = pretrained.with_head(material.encoder, bert_config, run_config.seed)
    _reinitialize(bert, config.learning.num_reinitialized_layers)
    added = adapters.build(bert, config.added, run_config.seed)
    if config.added.adapter == "none":
        variables = bert_model.without(
            heads.trained_variables(bert, losses.pooling),
            config.learning.freeze,
        )
    else:
        variables = [
            *added.trainable_variables,
            *heads.head_variables(bert, losses.pooling),
        ]
    decay = config.learning.layer_rate_decay
    learner_class = learners.OF_KIND[material.description.kind]
    return train_state.new_state(
        learner_class(bert, added, losses),
        optimizer.build(
            run_config.optimization,
            schedule.Schedule(run_config.schedule),
            variables,
            _rate_factors(bert, variables, decay) if decay != 1 else None,
        ),
        variables,
    )


def _reinitialize(
    bert: transformers.TFPreTrainedModel, num_layers: int
) -> None:
    """Gives the top layers random weights."""
    layers = bert.bert.encoder.layer
    if num_layers > len(layers):
        raise errors.UserError(
            f"--num_reinitialized_layers={num_layers}: the model has "
            f"{len(layers)} layers."
        )
    if not num_layers:
        return
    fresh = bert_model.from_config(
        transformers.BertConfig.from_dict(bert.config.to_dict())
    )
    for layer, other in zip(
        layers[-num_layers:],
        fresh.bert.encoder.layer[-num_layers:],
        strict=True,
    ):
        for variable, value in zip(layer.weights, other.weights, strict=True):
            variable.assign(value)


def _rate_factors(
    bert: transformers.TFPreTrainedModel,
    variables: list[tf.Variable],
    decay: float,
) -> list[float]:
    """The factor of each variable's rate: 1 for the head."""
    layers = bert.bert.encoder.layer
    depths = {
        variable.ref(): len(layers) - number
        for number, layer in enumerate(layers)
        for variable in layer.trainable_variables
    }
    for variable in bert.bert.embeddings.trainable_variables:
        depths[variable.ref()] = len(layers) + 1
    return [decay ** depths.get(v.ref(), 0) for v in variables]


def _loss_config(
    config: finetune_config.FinetuneConfig,
    pieces: labelled_rows.Pieces,
    material: Material,
) -> learners.LossConfig:
    values = pieces.labels.get("label_values", np.zeros(1, np.float32))
    return learners.LossConfig(
        pooling=material.description.pooling,
        metric=material.task.metric,
        class_weights=_class_weights(
            config.learning.class_weights, material.task.labels, pieces
        ),
        r_drop=config.learning.r_drop,
        temperature=config.learning.temperature,
        mean=float(values.mean()),
        deviation=float(values.std()) or 1.0,
    )


def _class_weights(
    wanted: str, labels: tuple[str, ...], pieces: labelled_rows.Pieces
) -> np.ndarray | None:
    """float32 [C]; None if all classes count the same."""
    if not wanted:
        return None
    if "label_ids" not in pieces.labels:
        raise errors.UserError(
            f"--class_weights={wanted}: this task has no classes."
        )
    if wanted == "balanced":
        counts = np.bincount(pieces.labels["label_ids"], minlength=len(labels))
        shares = counts / counts.sum()
        return (1 / (len(labels) * np.maximum(shares, 1e-12))).astype(
            np.float32
        ) * (counts > 0)
    weights = dict.fromkeys(labels, 1.0)
    for pair in wanted.split(","):
        label, _, weight = pair.rpartition(":")
        try:
            if label not in weights or not float(weight) >= 0:
                raise ValueError
            weights[label] = float(weight)
        except ValueError as error:
            raise errors.UserError(
                f"--class_weights={wanted}: {pair!r} is not LABEL:WEIGHT with "
                f"a label of the training file ({', '.join(labels)}) and a "
                "weight that is not negative."
            ) from error
    return np.array([weights[label] for label in labels], np.float32)


def _restore_best(learner: learners.TaskLearner, model_dir: str) -> None:
    """Sets the weights that had the best score, if a checkpoint has them."""
    folder = f"{model_dir}/{model_directory.BEST}"
    for path, _ in checkpoint_files.list_whole(folder, warn=True):
        with checkpoint_files.reading(path):
            tf.train.Checkpoint(**learner.trackables).restore(
                path
            ).assert_existing_objects_matched().expect_partial()
        return
