"""Results of a check for all steps of a run, as plain values."""

import dataclasses
from collections.abc import Callable
from typing import Any

from bert_pretrain.assessment import assessment
from bert_pretrain.compilation import slices, training_step
from bert_pretrain.pretraining import phases


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result for one step, which one or several phases use."""

    phases: list[phases.Phase]
    batch: training_step.BatchShape
    recompute: bool
    model: str
    ours: assessment.Assessment
    peers: dict[str, assessment.Assessment]
    # The largest number of rows per replica, without (False) and with (True)
    # recomputation; empty if it was not searched.
    largest: dict[bool, int]

    @property
    def num_steps(self) -> int:
        """Steps of the run that are this step."""
        return sum(p.until_step - p.from_step for p in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {
            "seq_length": self.batch.seq_length,
            "max_predictions_per_seq": self.batch.num_predictions,
            "accumulation_steps": self.batch.num_microbatches,
            "num_steps": self.num_steps,
            **self.ours.to_dict(),
            **{name: peer.to_dict() for name, peer in self.peers.items()},
        }
        if self.largest:
            values["largest_per_replica_batch_size"] = self.largest[False]
            values["largest_with_recompute"] = self.largest[True]
        return values


@dataclasses.dataclass(frozen=True)
class Report:
    """The results for all steps of a run."""

    chips: slices.Slice
    findings: list[Finding]
    price: float | None  # of a chip per hour

    @property
    def fits(self) -> bool:
        """Whether all steps fit."""
        return all(finding.ours.fits for finding in self.findings)

    @property
    def hours_at_bound(self) -> float | None:
        """Hours of the run, at least; None if a step could not be compiled."""
        return self._hours(
            lambda step: step.cost.bound.seconds if step.cost else None
        )

    @property
    def hours_at_usual_share(self) -> float | None:
        """Hours of the run at `assessment.USUAL_SHARE` of the peak."""
        return self._hours(lambda step: step.usual_seconds)

    def cost(self, hours: float | None) -> float | None:
        """The price of all chips; None if price or hours are unknown."""
        if self.price is None or hours is None:
            return None
        return hours * self.chips.num_chips * self.price

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        `steps` has the values of all steps. At the top are those of the step
        that needs most memory.
        """
        steps = [finding.to_dict() for finding in self.findings]
        hours = {
            "hours_at_roofline": self.hours_at_bound,
            "hours_at_usual_share": self.hours_at_usual_share,
        }
        return {
            "accelerator_type": self.chips.accelerator_type,
            "topology": self.chips.topology,
            "num_chips": self.chips.num_chips,
            "num_replicas": self.chips.num_replicas,
            **max(steps, key=lambda step: step["needed_bytes"]),
            "fits": self.fits,
            **hours,
            **{
                name.replace("hours", "cost"): self.cost(value)
                for name, value in hours.items()
            },
            "steps": steps,
        }

    def _hours(
        self, seconds_of: Callable[[assessment.Assessment], float | None]
    ) -> float | None:
        total = 0.0
        for finding in self.findings:
            seconds = seconds_of(finding.ours)
            if seconds is None:
                return None
            total += finding.num_steps * seconds
        return total / 3600


def remedy(finding: Finding) -> str:
    """The options that can make a step fit."""
    batch = finding.batch
    num_microbatches = batch.num_microbatches
    fitting = finding.ours.num_fitting_rows() // num_microbatches
    if fitting >= 1:
        more = num_microbatches
        while batch.num_rows // more > fitting or batch.num_rows % more:
            more += 1
        ways = [
            f"--per_replica_batch_size={fitting * num_microbatches} (about the "
            "largest that fits)",
            f"--accumulation_steps={more}",
        ]
    else:
        ways = [
            f"fewer than {batch.num_rows // num_microbatches} rows at once "
            "(--per_replica_batch_size, --accumulation_steps)",
            "chips with more memory",
        ]
    if not finding.recompute:
        ways.append("--recompute=true")
    return ", or ".join(ways)
