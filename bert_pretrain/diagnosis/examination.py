"""All checks of a run, in their order.

If TensorFlow cannot be imported, nothing that loads it is tried. If the wheel,
libtpu or the variables are wrong, the TPU is not tried.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from bert_pretrain import errors
from bert_pretrain.assessment import check_config
from bert_pretrain.diagnosis import (
    check,
    doctor_config,
    environment,
    machine,
)

_Check = tuple[str, Callable[[], Iterator[check.Result]]]


@dataclasses.dataclass
class Examination:
    """What was found so far."""

    results: list[check.Result] = dataclasses.field(default_factory=list)
    # Of the compiled step, as `compile_check --json` has them.
    step: dict[str, Any] | None = None

    @property
    def has_errors(self) -> bool:
        """Whether the run should not be started."""
        return self.has_error_in("")

    def has_error_in(self, *names: str) -> bool:
        """Whether a check of these names, or any for "", found an error."""
        return any(
            result.level == "error" and ("" in names or result.name in names)
            for result in self.results
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "is_healthy": not self.has_errors,
            "results": [dataclasses.asdict(r) for r in self.results],
            "step": self.step,
        }


def examine(
    config: doctor_config.DoctorConfig,
    tell: Callable[[check.Result], None] = lambda result: None,
) -> Examination:
    """Examines a run.

    Args:
      tell: is called with each result at once; some checks take minutes.
    """
    found = Examination()

    def run(checks: Iterator[_Check]) -> None:
        for name, function in checks:
            for result in check.results_of(name, function):
                found.results.append(result)
                tell(result)

    run(_of_environment(config))
    if not found.has_errors:
        # Before TensorFlow is loaded, which would take the TPU.
        run(_of_tpu(config))
    if not found.has_error_in("versions", "import"):
        run(_of_run(config, found))
    return found


def _of_environment(config: doctor_config.DoctorConfig) -> Iterator[_Check]:
    tpu = config.training.devices.tpu
    yield "versions", environment.examine_versions
    is_for_tpus = tpu == "local"
    yield (
        "wheel",
        functools.partial(environment.examine_wheel, is_for_tpus),
    )
    if is_for_tpus:
        yield "libtpu", environment.examine_libtpu
    yield "variables", functools.partial(environment.examine_variables, tpu)
    yield "import", environment.examine_import


def _of_tpu(config: doctor_config.DoctorConfig) -> Iterator[_Check]:
    if tpu := config.training.devices.tpu:
        yield (
            "TPU",
            functools.partial(machine.examine_tpu, tpu, config.tpu_seconds),
        )


def _of_run(
    config: doctor_config.DoctorConfig, found: Examination
) -> Iterator[_Check]:
    # Imported late: it loads TensorFlow, which the environment may forbid.
    from bert_pretrain.diagnosis import run_files
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    training = config.training
    tpu, model_dir = training.devices.tpu, training.saving.model_dir
    is_pod = tpu.startswith("grpc://")
    if model_dir:
        yield (
            "model_dir",
            functools.partial(
                run_files.examine_directory, "model_dir", model_dir, is_pod
            ),
        )
    if training.data_dir:
        yield from _of_dataset(config, is_pod)
    if config.accelerator_type:
        yield "step", functools.partial(_examine_step, config, found)


def _of_dataset(
    config: doctor_config.DoctorConfig, is_pod: bool
) -> Iterator[_Check]:
    from bert_pretrain.diagnosis import run_files
    from bert_pretrain.model import config_json
    from bert_pretrain.pretraining import blueprint

    training = config.training
    try:
        plan = blueprint.plan(training)
        longest = blueprint.longest(plan)
        bert_config = config_json.architecture(training.architecture, longest)
    except errors.UserError as error:
        yield "dataset", functools.partial(_raise, error)
        return
    yield "dataset", lambda: run_files.examine_dataset(plan, is_pod)
    num_hosts, num_replicas = _size_of(config)
    if num_hosts:
        yield "shards", lambda: run_files.examine_shards(plan, num_hosts)
    if num_replicas:
        yield "batch", lambda: run_files.examine_batch(plan, num_replicas)
    num_parameters = run_files.num_parameters(
        bert_config, longest.pairing != "none"
    )
    if training.saving.model_dir:
        yield (
            "disk",
            lambda: machine.examine_disk(
                training.saving.model_dir,
                num_parameters,
                training.saving.keep_checkpoints,
            ),
        )
    yield "memory", lambda: machine.examine_memory(num_parameters)
    yield "input", lambda: run_files.examine_input(plan[0], training.seed)


def _raise(error: errors.UserError) -> Iterator[check.Result]:
    raise error
    yield


def _size_of(
    config: doctor_config.DoctorConfig,
) -> tuple[int | None, int | None]:
    """The hosts and the replicas of the run; None if unknown."""
    from bert_pretrain.compilation import slices
    from bert_pretrain.devices import worker_status

    tpu = config.training.devices.tpu
    name = config.accelerator_type or os.environ.get("TPU_ACCELERATOR_TYPE")
    num_replicas = None
    if name and (tpu or config.accelerator_type):
        num_replicas = slices.find(name).num_replicas
    if tpu.startswith("grpc://"):
        return len(worker_status.addresses(tpu)), num_replicas
    if tpu:
        return 1, num_replicas
    if num_replicas is None:
        return 1, config.training.devices.num_cpu_replicas
    return None, num_replicas


def _examine_step(
    config: doctor_config.DoctorConfig, found: Examination
) -> Iterator[check.Result]:
    """Compiles the step of each phase for the TPU."""
    from bert_pretrain.assessment import assessment, checking, findings

    report = checking.check(
        check_config.CheckConfig(
            accelerator_type=config.accelerator_type,
            per_replica_batch_size=config.per_replica_batch_size,
            price_per_chip_hour=config.price_per_chip_hour,
            rows=config.rows,
            training=config.training,
        )
    )
    found.step = report.to_dict()
    for finding in report.findings:
        ours, batch = finding.ours, finding.batch
        text = (
            f"{batch.num_rows} rows of {batch.seq_length} need "
            f"{ours.needed_bytes / 1e9:.2f} GB of "
            f"{ours.available_bytes / 1e9:.2f} GB"
        )
        if ours.fits:
            yield check.ok("step", text)
        else:
            yield check.error("step", text, findings.remedy(finding))
    for hours, what in (
        (report.hours_at_bound, "at least (a bound, not a forecast)"),
        (
            report.hours_at_usual_share,
            f"at {assessment.USUAL_SHARE:.0%} of the peak",
        ),
    ):
        if hours is not None:
            cost = report.cost(hours)
            costs = "" if cost is None else f", which cost {cost:,.2f}"
            yield check.ok("time", f"{hours:,.1f} hours {what}{costs}")
