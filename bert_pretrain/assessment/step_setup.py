"""One step of a run: lowers it, assesses it, and searches its largest batch."""

import dataclasses
from collections.abc import Callable
from typing import Any

from bert_pretrain.assessment import assessment, batch_search, findings
from bert_pretrain.compilation import isolation, peers, slices, training_step
from bert_pretrain.model import config_json
from bert_pretrain.pretraining import blueprint, phases, pretraining_config

_BATCH_UNIT = 8  # rows; memory is laid out in tiles of 8 rows


@dataclasses.dataclass(frozen=True)
class StepSetup:
    """All that a step depends on."""

    chips: slices.Slice
    training: pretraining_config.TrainingConfig
    plan: list[phases.Phase]
    batch: training_step.BatchShape

    def find(
        self,
        same_phases: list[phases.Phase],
        find_batch: bool,
        compare: bool,
    ) -> findings.Finding:
        """Assesses the step, and what else is requested.

        Args:
          same_phases: the phases that have this step.
          find_batch: searches the largest batch.
          compare: assesses the peers' steps.
        """
        model, ours = self.assess()
        largest = {}
        if find_batch:
            largest = {
                recompute: self._largest_batch(recompute, ours)
                for recompute in (False, True)
            }
        return findings.Finding(
            phases=same_phases,
            batch=self.batch,
            recompute=self.training.recompute,
            model=model,
            ours=ours,
            peers={
                name: self.assess_peer(name)
                for name in (peers.NAMES if compare else ())
            },
            largest=largest,
        )

    def assess(self) -> tuple[str, assessment.Assessment]:
        """A description of our model, and the assessment of our step."""
        step = self._lower(training_step.lower, self.training, self.plan)
        return step.model, self._assess(step, "our step")

    def assess_peer(self, name: str) -> assessment.Assessment:
        """The assessment of the step of one of `peers.NAMES`."""
        architecture = config_json.architecture(
            self.training.architecture, blueprint.longest(self.plan)
        )
        precision = self.training.devices.precision
        step = self._lower(peers.lower, name, architecture, precision)
        return self._assess(step, f"{name}'s step")

    def _largest_batch(
        self, recompute: bool, ours: assessment.Assessment
    ) -> int:
        """The largest number of rows of a replica that fits."""

        def measure(num_rows: int) -> int:
            known = ours.num_rows, self.training.recompute
            if (num_rows, recompute) == known:
                return ours.needed_bytes
            _, found = self._resized(num_rows, recompute).assess()
            return found.needed_bytes

        return batch_search.find_largest(
            measure,
            first=self.batch.num_rows,
            unit=_BATCH_UNIT * self.batch.num_microbatches,
            available=ours.available_bytes,
        )

    def _resized(self, num_rows: int, recompute: bool) -> "StepSetup":
        """The same step with another number of rows."""
        return dataclasses.replace(
            self,
            batch=dataclasses.replace(self.batch, num_rows=num_rows),
            training=dataclasses.replace(self.training, recompute=recompute),
        )

    def _lower(
        self, lower: Callable[..., training_step.Step], *args: Any
    ) -> training_step.Step:
        return isolation.call(
            lower,
            *args,
            self.batch,
            self.chips.num_replicas,
            title=f"tracing {self._size}",
        )

    def _assess(
        self, step: training_step.Step, what: str
    ) -> assessment.Assessment:
        return assessment.assess(
            self.chips,
            self.batch.num_rows,
            step,
            f"compiling {what} of {self._size} for "
            f"{self.chips.accelerator_type}",
        )

    @property
    def _size(self) -> str:
        return f"{self.batch.num_rows} x {self.batch.seq_length}"
