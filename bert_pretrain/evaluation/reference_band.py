"""The held-out losses that runs of a recipe reach, and whether another does.

A reference holds the losses of runs that differ in their seed only. The band
around them is where one more such run lies: at each step, a prediction interval
for one further value (Hahn and Meeker 1991, section 4.8), of the logarithm of
the loss, with Student's t, because the deviation is an estimate from few runs.

The whole curve must lie in the band, and n runs at m steps give m estimates of
a deviation, some of which are too small by chance. So the deviation at a step
is at least the median of those at all steps, and at least `FLOOR`. The degrees
of freedom stay n - 1, as if there were one step: a run that is good early is
good later, so its steps are no independent evidence. In simulations of 13 steps
that depend on one another in different degrees, 0 to 4 of 100 good runs are
outside; with mean ± 3 deviations of three runs it would be 12 to 81.

The band of three runs is wide, 11.5 deviations to each side. Five runs make it
5.0, and ten 3.4.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from bert_pretrain import errors, files, options
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.devices import versions
from bert_pretrain.evaluation import run_history

CONFIDENCE = 0.99
# Share of the loss. Other processors and libraries round otherwise, and cause
# differences as another order of examples does.
FLOOR = 0.002
MIN_RUNS = 3
_PACKAGES = "tensorflow", "tf-keras", "transformers", "numpy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """One run of a reference."""

    seed: int
    losses: tuple[float, ...]  # nats, at the steps of the reference
    minutes: tuple[float, ...]  # of training, until these steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """What runs with the same options have reached."""

    steps: tuple[int, ...]
    runs: tuple[ReferenceRun, ...]
    options: dict[str, Any]  # that change the result, and are no defaults
    dataset: dict[str, Any]  # what tells it apart from others
    machine: str
    versions: dict[str, str | None]  # of packages


@dataclasses.dataclass(frozen=True)
class Interval:
    """The band at a step, in nats."""

    step: int
    low: float
    middle: float
    high: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a run is in the band."""

    steps: Sequence[int]  # that were compared
    outside: Sequence[tuple[Interval, float]]  # with the loss there


def write(
    path: str,
    runs: Sequence[run_history.RunHistory],
    config_class: type[options.Options],
    machine: str,
) -> None:
    """Writes the reference that runs make.

    Args:
      config_class: of the options of the runs.
      machine: what they ran on, in words.

    Raises:
      UserError: if they are less than three, not complete, or differ in more
        than their seed.
    """
    if len(runs) < MIN_RUNS:
        raise errors.UserError(
            f"a reference of {len(runs)} runs says nothing about their "
            f"deviation; give --model_dir for at least {MIN_RUNS} runs."
        )
    _check_equal(runs, config_class)
    steps = run_history.common_steps(runs)
    found = []
    for run in runs:
        at_step = {each.step: each for each in run.evaluations}
        found.append(
            ReferenceRun(
                seed=run.train_config["seed"],
                losses=tuple(round(at_step[s].loss, 5) for s in steps),
                minutes=tuple(round(at_step[s].minutes, 2) for s in steps),
            )
        )
    reference = Reference(
        steps=tuple(steps),
        runs=tuple(found),
        options=_options(runs[0], config_class),
        dataset=_dataset(runs[0]),
        machine=machine,
        versions={name: versions.installed(name) for name in _PACKAGES},
    )
    files.write_json(path, dataclasses.asdict(reference))


def read(path: str) -> Reference:
    """Reads a reference.

    Raises:
      UserError: if the file is none.
    """
    values = files.read_json(path)
    try:
        runs = tuple(
            ReferenceRun(
                seed=int(run["seed"]),
                losses=tuple(map(float, run["losses"])),
                minutes=tuple(map(float, run["minutes"])),
            )
            for run in values["runs"]
        )
        reference = Reference(
            **{
                **values,
                "runs": runs,
                "steps": tuple(map(int, values["steps"])),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise errors.UserError(
            f"{path}: no reference ({type(error).__name__}: {error}); give a "
            "file that --write_reference has written."
        ) from error
    num_steps = len(reference.steps)
    if len(runs) < MIN_RUNS or any(
        len(values) != num_steps
        for run in runs
        for values in (run.losses, run.minutes)
    ):
        raise errors.UserError(
            f"{path}: needs at least {MIN_RUNS} runs with a loss and the "
            f"minutes for each of its {num_steps} steps; write it anew with "
            "--write_reference."
        )
    return reference


def band(reference: Reference) -> list[Interval]:
    """The band of a reference, step by step."""
    logs = np.log([run.losses for run in reference.runs])  # [runs, steps]
    middles, margins = _margins(logs)
    return [
        Interval(
            step, *map(math.exp, (middle - margin, middle, middle + margin))
        )
        for step, middle, margin in zip(
            reference.steps, middles, margins, strict=True
        )
    ]


def compare(
    run: run_history.RunHistory,
    reference: Reference,
    config_class: type[options.Options],
) -> Verdict:
    """Says whether a run is in the band at all steps that both were evaluated.

    A run with other options is compared too, with a warning.

    Args:
      config_class: of the options of the run.

    Raises:
      UserError: if the run has another dataset, or no step in common.
    """
    theirs = _dataset(run)
    for name, value in reference.dataset.items():
        if theirs.get(name) != value:
            raise errors.UserError(
                f"{run.name}: {name}={theirs.get(name)!r}, but the reference "
                f"has {value!r}, and losses on other text do not compare; "
                "build the dataset as the reference's recipe says."
            )
    if differences := _differences(
        reference.options, _options(run, config_class)
    ):
        errors.warn(
            f"{run.name} has other options than the reference: {differences}."
        )
    intervals = [each for each in band(reference) if each.step in run.losses]
    if not intervals:
        raise errors.UserError(
            f"{run.name}: was evaluated at none of the reference's steps "
            f"{', '.join(f'{step:,}' for step in reference.steps)}; train it "
            "with an --eval_every_steps that has some of them."
        )
    outside = [
        (interval, loss)
        for interval in intervals
        for loss in [run.losses[interval.step]]
        if not interval.low <= loss <= interval.high
    ]
    return Verdict([each.step for each in intervals], outside)


def _margins(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middle of the band, half of its width), each [steps].

    Args:
      logs: of losses, float [runs, steps].
    """
    num_runs = len(logs)
    deviations = logs.std(axis=0, ddof=1)
    deviations = np.maximum(deviations, max(np.median(deviations), FLOOR))
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, num_runs - 1)
    # The mean of the runs is an estimate, too.
    return logs.mean(axis=0), quantile * deviations * (1 + 1 / num_runs) ** 0.5


# ------------------------------------------------------------ the same recipe


def _check_equal(
    runs: Sequence[run_history.RunHistory],
    config_class: type[options.Options],
) -> None:
    """Checks that runs are complete and differ in their seed only."""
    first = runs[0]
    seeds = [run.train_config.get("seed") for run in runs]
    if len(set(seeds)) < len(seeds):
        raise errors.UserError(
            f"the runs have the seeds {', '.join(map(str, seeds))}, but equal "
            "seeds do not show how runs deviate; train each run with a --seed "
            "of its own."
        )
    for run in runs:
        if not run.is_complete:
            raise errors.UserError(
                f"{run.name}: is not complete (step {run.step:,}); run "
                "bert_pretrain.train again, until it ends."
            )
        differences = _differences(
            {**_options(first, config_class), **_dataset(first)},
            {**_options(run, config_class), **_dataset(run)},
        )
        if differences:
            raise errors.UserError(
                f"{run.name} and {first.name} differ in more than the seed: "
                f"{differences}; give runs with the same options."
            )
        for step, loss in run.losses.items():
            if not math.isfinite(loss):
                raise errors.UserError(
                    f"{run.name}: the held-out loss at step {step:,} is not "
                    "finite; leave this run out."
                )


def _options(
    run: run_history.RunHistory, config_class: type[options.Options]
) -> dict[str, Any]:
    """The options that change the result, and are no defaults, but the seed."""
    found = {
        name: value
        for name, _, value in options.changes(
            config_class, {}, run.train_config
        )
        if name != "seed"
    }
    if phases := run.train_config.get(model_directory.PHASES_NAME):
        found[model_directory.PHASES_NAME] = phases
    return found


def _dataset(run: run_history.RunHistory) -> dict[str, Any]:
    # Not the hash of the manifest: it has the paths of the text.
    return {
        "vocab_sha256": run.vocab_sha256,
        "datasets": run.train_config.get(model_directory.DATASETS_NAME),
    }


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The values that differ, in words; a missing one is the default."""
    return ", ".join(
        f"{name}={theirs.get(name, 'default')!r} instead of "
        f"{ours.get(name, 'default')!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    )
