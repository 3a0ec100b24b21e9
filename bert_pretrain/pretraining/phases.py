"""The phases of a run: from which step on what is trained, and how.

A run has one step counter and one schedule. Its options say how it begins. A
file, a YAML list, says what changes at which later step:

    - from_step: 90_000
      data_dir: gs://bucket/records-512
      global_batch_size: 256

What an entry does not name stays as it was in the phase before. A
`masked_fraction` of null is the dataset's own again. Weights, the step and the
optimizer's state are carried over, except that `reset_optimizer` clears the
latter.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import yaml

from bert_pretrain import errors, files, options
from bert_pretrain.data import (
    dynamic_masking,
    input_pipeline,
    manifests,
    records,
    vocabulary,
)
from bert_pretrain.evaluation import evaluator
from bert_pretrain.model import objectives
from bert_pretrain.training import course, training_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase(course.Phase):
    """Training on the records of one dataset, with one kind of masks."""

    data_dir: str
    manifest: manifests.Manifest
    masked_fraction: float | None
    masking: dynamic_masking.Masking | None  # if the trainer masks

    @property
    def dataset(self) -> str:
        """The folder of the records."""
        return self.data_dir

    @property
    def seq_length(self) -> int:
        """Tokens of a row, with padding."""
        return self.manifest.seq_length

    @property
    def num_predictions(self) -> int:
        """Masked tokens of a row, at most."""
        return (self.masking or self.manifest).max_predictions_per_seq

    def train_batches(
        self, strategy: tf.distribute.Strategy, seed: int, examples: range
    ) -> tf.distribute.DistributedDataset:
        """See `input_pipeline.train_batches`."""
        return input_pipeline.train_batches(
            strategy,
            self.data_dir,
            self.manifest,
            self.global_batch_size,
            seed,
            examples,
            self.masking,
        )

    def evaluator(
        self,
        strategy: tf.distribute.Strategy,
        learner: objectives.Learner,
        dtype: tf.DType,
    ) -> tuple[evaluator.Evaluator, int]:
        """Measures the losses on the eval split."""
        batches, num_batches = input_pipeline.eval_batches(
            strategy,
            self.data_dir,
            self.manifest,
            records.EVAL,
            self.global_batch_size,
        )
        with strategy.scope():
            return (
                evaluator.Evaluator(learner, batches, dtype=dtype),
                num_batches,
            )

    def naming_failures(self) -> contextlib.AbstractContextManager[None]:
        """See `input_pipeline.naming_failures`."""
        return input_pipeline.naming_failures(self.data_dir, self.manifest)


# What an entry may name, with its type.
_KEYS = {
    "from_step": int,
    "data_dir": str,
    "global_batch_size": int,
    "accumulation_steps": int,
    "masked_fraction": float,
    "peak_learning_rate": float,
    "warmup_steps": int,
    "reset_optimizer": bool,
}
# Of these the next phase inherits nothing.
_OWN = ("warmup_steps", "reset_optimizer")
_BOUNDS = {
    "from_step": options.Bounds(at_least=1),
    "global_batch_size": options.Bounds(
        at_least=1, at_most=training_config.MAX_BATCH
    ),
    "accumulation_steps": options.Bounds(
        at_least=1, at_most=training_config.MAX_BATCH
    ),
    "masked_fraction": options.Bounds(above=0, at_most=1),
    "peak_learning_rate": options.Bounds(above=0),
    "warmup_steps": options.Bounds(at_least=0),
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice; YAML would take the last one."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        """The mapping of a node, if its keys differ."""
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key!r} is there twice",
                    problem_mark=node.start_mark,
                )
        return super().construct_mapping(node, deep)


def read(
    path: str,
    beginning: Mapping[str, Any],
    total_steps: int,
    known_manifests: Mapping[str, manifests.Manifest] | None = None,
) -> list[Phase]:
    """The phases of a run, in order.

    Args:
      path: of the file; "" for a run of one phase.
      beginning: the fields of the first phase that the run's options give.
      known_manifests: by folder, of datasets that should not be read.

    Raises:
      UserError: naming the entry that is wrong.
    """
    entries = [{"from_step": 0, **beginning}, *_entries(path)]
    values: dict[str, Any] = {}
    found = dict(known_manifests or {})
    phases: list[Phase] = []
    untils = [entry["from_step"] for entry in entries[1:]] + [total_steps]
    for entry, until in zip(entries, untils, strict=True):
        if entry["from_step"] >= until:
            raise errors.UserError(
                f"{path}: the phase from_step={entry['from_step']} must begin "
                f"before step {until}, where "
                + ("the run ends." if until == total_steps else "the next is.")
            )
        own = {name: entry[name] for name in _OWN if name in entry}
        values |= {k: v for k, v in entry.items() if k not in own}
        data_dir = values["data_dir"]
        if data_dir not in found:
            found[data_dir] = _read_dataset(data_dir)
        phases.append(
            Phase(
                **values,
                **own,
                until_step=until,
                manifest=found[data_dir],
                masking=dynamic_masking.of_dataset(
                    data_dir, found[data_dir], values["masked_fraction"]
                ),
            )
        )
    _check(phases, path)
    return phases


def describe(plan: Sequence[Phase]) -> list[dict[str, Any]]:
    """What later phases change, as plain values; datasets by their digest."""
    return [
        {name: getattr(each, name) for name in _KEYS if name != "data_dir"}
        | {"set": files.sha256(f"{each.data_dir}/{manifests.MANIFEST_NAME}")}
        for each in plan[1:]
    ]


def describe_datasets(plan: Sequence[Phase]) -> list[dict[str, Any]]:
    """What a run learns from, for the card of its model."""
    found = []
    for each in plan:
        if course.dataset_start(plan, each) != each.from_step:
            continue  # A phase before it has the same dataset.
        manifest = each.manifest
        split = manifest.splits[records.TRAIN]
        found.append(
            {
                "from_step": each.from_step,
                "documents": split.num_documents,
                "examples": split.num_examples,
                "tokens": split.num_tokens,
                "seq_length": manifest.seq_length,
                "pairing": manifest.pairing,
                "masking": manifest.masking,
                "is_packed": manifest.is_packed,
            }
        )
    return found


def _entries(path: str) -> list[dict[str, Any]]:
    if not path:
        return []
    try:
        # A subclass of the safe loader, which makes plain values only.
        entries = yaml.load(files.read_text(path), _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise errors.UserError(
            f"{path}: not YAML ({' '.join(str(error).split())})."
        ) from error
    if not isinstance(entries, list) or not entries:
        raise errors.UserError(
            f"{path}: expected a list of phases, each '- from_step: …'."
        )
    return [_entry(path, number, entry) for number, entry in enumerate(entries)]


def _entry(path: str, number: int, entry: Any) -> dict[str, Any]:
    place = f"{path}: phase {number + 1}"
    if not isinstance(entry, dict) or "from_step" not in entry:
        raise errors.UserError(f"{place}: has no from_step.")
    if unknown := [name for name in entry if name not in _KEYS]:
        raise errors.UserError(
            f"{place}: {unknown[0]!r} cannot change in a phase; "
            f"{', '.join(_KEYS)} can."
        )
    values: dict[str, Any] = {}
    for name, value in entry.items():
        kind = _KEYS[name]
        try:
            # YAML reads 5e-5, which has no point, as a string.
            if name == "masked_fraction" and value is None:
                values[name] = None
                continue
            values[name] = (
                float(value) if kind is float else options.tidy(name, value)
            )
            if not isinstance(values[name], kind) or (
                kind is int and isinstance(value, bool)
            ):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise errors.UserError(
                f"{place}: {name}={value!r} is not of the type {kind.__name__}."
            ) from error
        bounds = _BOUNDS.get(name)
        if bounds and (complaint := bounds.complaint(values[name])):
            raise errors.UserError(
                f"{place}: {name}={values[name]} {complaint}"
                + (
                    "; the run's options say how it begins."
                    if name == "from_step"
                    else "."
                )
            )
    return values


def _read_dataset(data_dir: str) -> manifests.Manifest:
    manifest = manifests.read(data_dir)
    manifests.check_dataset(data_dir, manifest)
    for name in (records.TRAIN, records.EVAL):
        split = manifest.splits.get(name)
        if split is None or not split.num_examples:
            raise errors.UserError(
                f"{data_dir}: the {name} split holds no example; build the "
                "dataset with more text"
                + (
                    "."
                    if name == records.TRAIN
                    else " or a larger --eval_fraction."
                )
            )
    return manifest


def _check(phases: Sequence[Phase], path: str) -> None:
    first = phases[0].manifest
    seen: list[str] = []
    for phase in phases:
        place = f"{path}: the phase from_step={phase.from_step}"
        if phase.manifest.pairing != first.pairing:
            raise errors.UserError(
                f"{place}: {phase.data_dir} has pairing="
                f"{phase.manifest.pairing!r}, the run began with "
                f"{first.pairing!r}; one model cannot learn both."
            )
        vocabulary.check_same(
            f"{place}: {phase.data_dir}",
            phase.manifest.vocab_sha256,
            first.vocab_sha256,
            expected_by="the first phase",
            remedy="give a dataset that was built with the first phase's "
            "vocabulary",
        )
        if phase.data_dir in seen[:-1]:
            raise errors.UserError(
                f"{place}: {phase.data_dir} was left in an earlier phase; "
                "phases of one dataset must follow one another, since its "
                "examples would begin anew."
            )
        if phase.data_dir not in seen:
            seen.append(phase.data_dir)
        if phase.warmup_steps >= phase.until_step - phase.from_step:
            raise errors.UserError(
                f"{place}: warmup_steps={phase.warmup_steps} must be below the "
                f"{phase.until_step - phase.from_step} steps of the phase, or "
                "it never comes to its peak_learning_rate."
            )
        if phase.reset_optimizer and phase.warmup_steps < 1:
            raise errors.UserError(
                f"{place}: reset_optimizer needs warmup_steps: late in a run, "
                "the first updates with empty moments are several times too "
                "large."
            )
