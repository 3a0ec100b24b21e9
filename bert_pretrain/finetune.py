"""Fine-tunes a BERT for a task; run again, it resumes.

    python -m bert_pretrain.finetune --task=classification \\
        --init_from=export --train_file=train.tsv --dev_file=dev.tsv \\
        --output_dir=finetuned --seeds=1,2,3

Exit codes are those of bert_pretrain.train.
"""

from bert_pretrain import interruption

if __name__ == "__main__":
    interruption.listen()

# ruff: noqa: E402 (a signal may come while these are imported)
import sys
from collections.abc import Callable
from typing import Any

from bert_pretrain import command_line
from bert_pretrain.devices import preemption, supervision, worker_status
from bert_pretrain.finetuning import finetune_config


def main(config: finetune_config.FinetuneConfig) -> int:
    """Fine-tunes, prints the scores, and returns the exit code."""

    def run() -> int:
        # The import of TensorFlow takes seconds, in which a signal may come.
        with (
            interruption.watching() as raise_if_asked,
            preemption.heeding(),
        ):
            return _finetune(config, raise_if_asked)

    return supervision.run(run, config.devices.tpu)


def _finetune(
    config: finetune_config.FinetuneConfig, raise_if_asked: Callable[[], None]
) -> int:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.devices import pod
    from bert_pretrain.finetuning import finetuning
    from bert_pretrain.training import recovery

    try:
        raise_if_asked()
        metrics = finetuning.finetune(config, raise_if_asked)
    except worker_status.WorkerLost as lost:
        pod.leave(lost)
    except interruption.Interrupted as interrupted:
        return interruption.report(interrupted)
    except recovery.Diverged as diverged:
        print(f"error: {diverged}", file=sys.stderr)
        return recovery.DIVERGED_CODE
    except recovery.Spoilt as spoilt:
        print(f"error: {spoilt}", file=sys.stderr)
        return recovery.SPOILT_CODE
    _print_metrics(config.output_dir, metrics)
    return 0


def _print_metrics(output_dir: str, metrics: dict[str, Any]) -> None:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.telemetry import console

    rows = []
    for split, scores in (("dev", metrics), ("test", metrics.get("test", {}))):
        together = scores.get("ensemble", {})
        for name, score in scores.items():
            if not isinstance(score, dict) or "mean" not in score:
                continue
            text = f"{score['mean']:.4f}"
            if score["seeds"][1:]:
                text += f" ± {score['deviation']:.4f}"
            if name in together:
                text += f", all seeds together {together[name]:.4f}"
            rows.append((f"{split} {name}", text))
    rows += [
        ("time", console.format_duration(metrics["seconds"])),
        ("folder", output_dir),
    ]
    console.print_table("Fine-tuning is complete", rows, sys.stdout)


if __name__ == "__main__":
    interruption.survive_closed_console()
    command_line.run(main, finetune_config.FinetuneConfig)
