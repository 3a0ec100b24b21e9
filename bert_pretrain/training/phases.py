"""The phases of a run: from which step on what is trained, and how.

A run has one step counter and one schedule. Its options say how it begins; a
file, a YAML list, says what changes at which later step:

    - from_step: 90_000
      data_dir: gs://bucket/records-512
      global_batch_size: 256

What an entry does not name stays as it was in the phase before; a
`masked_fraction` that is null is the set's own again. Weights, the
optimizer's state and the step are carried over; `reset_optimizer` alone makes
an exception.
"""

import dataclasses

import yaml

from bert_pretrain import errors, files, options
from bert_pretrain.data import dynamic_masking, manifests, records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run, in which nothing changes but the learning rate."""

    from_step: int
    until_step: int
    data_dir: str
    global_batch_size: int
    accumulation_steps: int
    masked_fraction: float | None
    masking: dynamic_masking.Masking | None  # of sets that the trainer masks
    peak_learning_rate: float
    warmup_steps: int = 0  # of this phase, beside the run's
    reset_optimizer: bool = False
    manifest: manifests.Manifest


# What an entry may name, and the type; what counts for one phase only is not
# passed on to the next.
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
_OWN = ("warmup_steps", "reset_optimizer")
_BOUNDS = {
    "from_step": options.Bounds(at_least=1),
    "global_batch_size": options.Bounds(at_least=1),
    "accumulation_steps": options.Bounds(at_least=1),
    "masked_fraction": options.Bounds(above=0, at_most=1),
    "peak_learning_rate": options.Bounds(above=0),
    "warmup_steps": options.Bounds(at_least=0),
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice, of which YAML takes the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key!r} is there twice",
                    problem_mark=node.start_mark,
                )
        return super().construct_mapping(node, deep)


def read(path, beginning, total_steps, manifests=None):
    """The phases of a run, in order.

    Args:
      path: of the file; "" for a run of one phase.
      beginning: the values of `Phase` that the run's options give.
      manifests: by folder, of sets that are not to be read.

    Raises:
      UserError: naming the entry that is wrong.
    """
    entries = [{"from_step": 0, **beginning}, *_entries(path)]
    values, manifests, phases = {}, dict(manifests or {}), []
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
        if data_dir not in manifests:
            manifests[data_dir] = _read_set(data_dir)
        phases.append(
            Phase(
                **values,
                **own,
                until_step=until,
                manifest=manifests[data_dir],
                masking=dynamic_masking.of_set(
                    data_dir, manifests[data_dir], values["masked_fraction"]
                ),
            )
        )
    _check(phases, path)
    return phases


def describe(phases):
    """What changes, as plain values: the sets by what is in them."""
    return [
        {name: getattr(phase, name) for name in _KEYS if name != "data_dir"}
        | {"set": files.sha256(f"{phase.data_dir}/{manifests.MANIFEST_NAME}")}
        for phase in phases[1:]
    ]


def at_step(phases, step):
    """The phase that the step after `step` steps belongs to."""
    return next(p for p in reversed(phases) if p.from_step <= step)


def set_start(phases, phase):
    """The step at which the set of a phase was begun."""
    return next(p for p in phases if p.data_dir == phase.data_dir).from_step


def _entries(path):
    if not path:
        return []
    try:
        # A safe loader, too: it makes plain values only.
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


def _entry(path, number, entry):
    place = f"{path}: phase {number + 1}"
    if not isinstance(entry, dict) or "from_step" not in entry:
        raise errors.UserError(f"{place}: has no from_step.")
    if unknown := [name for name in entry if name not in _KEYS]:
        raise errors.UserError(
            f"{place}: {unknown[0]!r} is nothing that can change; "
            f"{', '.join(_KEYS)} can."
        )
    values = {}
    for name, value in entry.items():
        kind = _KEYS[name]
        try:
            # YAML takes 5e-5, which has no point, for a string.
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


def _read_set(data_dir):
    manifest = manifests.read(data_dir)
    manifests.check_dataset(data_dir, manifest)
    for name in (records.TRAIN, records.EVAL):
        split = manifest.splits.get(name)
        if split is None or not split.num_examples:
            raise errors.UserError(
                f"{data_dir}: the {name} split holds no example; build the "
                "set with more text"
                + (
                    "."
                    if name == records.TRAIN
                    else " or a larger --eval_fraction."
                )
            )
    return manifest


def _check(phases, path):
    first = phases[0].manifest
    seen = []
    for phase in phases:
        place = f"{path}: the phase from_step={phase.from_step}"
        for name in ("pairing", "vocab_sha256"):
            values = getattr(first, name), getattr(phase.manifest, name)
            if values[0] != values[1]:
                raise errors.UserError(
                    f"{place}: {phase.data_dir} has {name}={values[1]!r}, the "
                    f"run began with {values[0]!r}; one model cannot learn "
                    "both."
                )
        if phase.data_dir in seen[:-1]:
            raise errors.UserError(
                f"{place}: {phase.data_dir} was left in an earlier phase; "
                "phases of a set must follow one another, since its examples "
                "would begin anew."
            )
        if phase.data_dir not in seen:
            seen.append(phase.data_dir)
        if phase.reset_optimizer and phase.warmup_steps < 1:
            raise errors.UserError(
                f"{place}: reset_optimizer needs warmup_steps, since first "
                "updates on empty moments are several times too large late in "
                "a run."
            )
